"""Samples in turns, by a clock that the test turns."""

import pytest

from loomax.nas.oracle.config import CpuConfig
from loomax.nas.oracle.load import busy_cores, check_quiet
from loomax.nas.oracle.turns import take_turns


class Machine:
    """Programs that take known times, of which every third sample is disturbed."""

    def __init__(self, seconds: dict[str, float], disturbed: float, call: float = 0.0):
        self.now, self.order, self._disturbed, self._call = 0.0, [], disturbed, call
        self.runs = [self._run(name, value) for name, value in seconds.items()]

    def _run(self, name: str, seconds: float):
        def run(times: int) -> None:
            self.order.append((name, times))
            slow = self._disturbed if len(self.order) % 3 == 0 else 1.0
            self.now += self._call + seconds * times * slow

        return run


CONFIG = CpuConfig(rounds=4, repeats=3, noise=0.05, sample_seconds=0.1)


def test_the_best_sample_counts_and_programs_take_turns():
    machine = Machine({"a": 0.01, "b": 0.05}, disturbed=1.5)
    readings = take_turns(machine.runs, CONFIG, lambda: machine.now)
    assert [reading.seconds for reading in readings] == pytest.approx([0.01, 0.05])
    timed = machine.order[-8:]
    assert [name for name, _ in timed] == ["a", "b"] * 4


def test_short_programs_run_several_times_in_a_sample():
    machine = Machine({"a": 0.01, "b": 0.05}, disturbed=1.0)
    take_turns(machine.runs, CONFIG, lambda: machine.now)
    assert set(machine.order[-8:]) == {("a", 10), ("b", 2)}


def test_the_cost_of_a_call_is_not_taken_for_the_programs():
    """One that takes 200 times as long as the program, so that a first guess is far off."""
    machine = Machine({"a": 5e-5}, disturbed=1.0, call=1e-2)
    (reading,) = take_turns(machine.runs, CONFIG, lambda: machine.now)
    assert reading.seconds == pytest.approx(5e-5, rel=0.15)


def test_noise_is_the_median_over_the_best_and_asks_for_more_rounds():
    quiet = Machine({"a": 0.1}, disturbed=1.0)
    (reading,) = take_turns(quiet.runs, CONFIG, lambda: quiet.now)
    assert reading.noise == pytest.approx(0) and len(quiet.order) == 2 + 4

    # Half of the samples take twice as long, whatever the number of rounds.
    times = iter([1.0, 1.0] + [1.0, 2.0] * 6)
    clock = {"now": 0.0}

    def run(_: int) -> None:
        clock["now"] += next(times)

    (reading,) = take_turns([run], CONFIG, lambda: clock["now"])
    assert reading.seconds == 1.0 and reading.noise == pytest.approx(0.5)
    assert next(times, None) is None


def test_a_busy_machine_is_refused():
    with pytest.raises(ValueError, match=r"keep 1\.6 of \d+ cores busy, more than 0\.5: stop them"):
        check_quiet(0.5, lambda: 1.6)
    check_quiet(0.5, lambda: 0.4)
    assert busy_cores(0.01) >= 0


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"rounds": 0}, "rounds is 0: give at least 1"),
        ({"noise": 0.0}, "noise is 0.0: give more than 0"),
    ],
)
def test_settings_are_checked(setting, line):
    with pytest.raises(ValueError, match=line):
        CpuConfig(**setting)
