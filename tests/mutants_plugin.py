"""A pytest plugin for `tests/mutants.py`: which test executes which line, and for how long."""

import json
import os

import coverage
import pytest

_asked = json.loads(os.environ["LOOMAX_MUTANTS"])
_seconds: dict[str, float] = {}
# Paths as Python sees them: through the links of loomax/, or the folders themselves.
_coverage = coverage.Coverage(data_file=None, include=[f"*/{path}" for path in _asked["paths"]])
_coverage.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    _coverage.switch_context(item.nodeid)
    result = yield
    _coverage.switch_context("")
    return result


def pytest_runtest_logreport(report):
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish():
    _coverage.stop()
    data = _coverage.get_data()
    lines = {}
    for measured in data.measured_files():
        path = next(path for path in _asked["paths"] if measured.endswith(f"/{path}"))
        found = lines.setdefault(path, {})
        for line, contexts in data.contexts_by_lineno(measured).items():
            found[line] = sorted({*found.get(line, []), *contexts})
    with open(_asked["out"], "w", encoding="utf-8") as file:
        json.dump({"lines": lines, "seconds": _seconds}, file)
