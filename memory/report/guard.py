"""Whether a program takes more memory than its budget. Imports no JAX."""

import math

from loomax.memory.report.budget import COMPILERS, Entry
from loomax.memory.report.budget_file import Budget
from loomax.memory.report.text import bytes_text, change_text, percent_text

NEW_BUFFERS = 3


def check(entry: Entry, budget: Budget, tolerance: float = 0.01) -> list[str]:
    """What exceeds the budget; empty if nothing does.

    Temporaries are compared by themselves, and all else (arguments, outputs, constants) together.

    Args:
        entry: as it is now.
        budget: as it was accepted.
        tolerance: growth of each that is allowed, relative.

    Raises:
        ValueError: the tolerance is negative or not finite.
    """
    _check_tolerance(tolerance)
    old = budget.get(entry.key)
    if old is None:
        return [_unknown(entry, budget)]
    violations = []
    if entry.temp_bytes - old.temp_bytes > tolerance * old.temp_bytes:
        change = f"temporaries {change_text(old.temp_bytes, entry.temp_bytes)}"
        violations.append(_violation(entry, old, change, tolerance, _new_buffers(entry, old)))
    if entry.other_bytes - old.other_bytes > tolerance * old.other_bytes:
        change = f"arguments and outputs {change_text(old.other_bytes, entry.other_bytes)}"
        violations.append(_violation(entry, old, change, tolerance, _parts(entry, old)))
    return violations


def improvements(entry: Entry, budget: Budget, tolerance: float = 0.01) -> list[str]:
    """Hints where the budget can be lowered; arguments as in `check`."""
    _check_tolerance(tolerance)
    old = budget.get(entry.key)
    if old is None:
        return []
    where = f"{entry.name} on {entry.target}"
    pairs = (
        ("temporaries", old.temp_bytes, entry.temp_bytes),
        ("arguments and outputs", old.other_bytes, entry.other_bytes),
    )
    return [
        f"{where}: {what} {change_text(before, after)}: lower the budget to keep this"
        for what, before, after in pairs
        if before - after > tolerance * before
    ]


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}: give 0 or more, such as 0.01 for 1 %")


def _unknown(entry: Entry, budget: Budget) -> str:
    targets = sorted(target for name, target in budget if name == entry.name)
    known = f"{entry.name} on {', '.join(targets)} only" if targets else f"no {entry.name}"
    return f"{entry.name} on {entry.target}: the budget has {known}: add it if that is meant"


def _violation(entry: Entry, old: Entry, change: str, tolerance: float, reason: str) -> str:
    allowed = f"allowed {percent_text(tolerance)}"
    parts = [f"{entry.name} on {entry.target}: {change}, {allowed}", _compiler(entry, old)]
    return "; ".join([*parts, *([reason] if reason else [])])


def _compiler(entry: Entry, old: Entry) -> str:
    """Which versions changed, and whether the program did, as far as that is known."""
    changed = [
        f"{name} {old.versions.get(name, 'none')} -> {entry.versions.get(name, 'none')}"
        for name in COMPILERS
        if old.versions.get(name) != entry.versions.get(name)
    ]
    text = f"compiler {', '.join(changed)}" if changed else "same compiler"
    if entry.program_hash.startswith("lowered:") and old.program_hash.startswith("lowered:"):
        same = entry.program_hash == old.program_hash
        return f"{text}, {'same program' if same else 'another program'}"
    return text


def _new_buffers(entry: Entry, old: Entry) -> str:
    """What holds more at the peak than it did."""
    before = {row.key: row.bytes for row in old.held}
    grown = [(row.bytes - before.get(row.key, 0), row) for row in entry.held]
    grown = sorted((item for item in grown if item[0] > 0), key=lambda item: -item[0])
    texts = [
        f"{bytes_text(more)} more in {row.count} of {row.line} {row.operation}"
        for more, row in grown[:NEW_BUFFERS]
    ]
    return f"largest new buffers: {', '.join(texts)}" if texts else ""


def _parts(entry: Entry, old: Entry) -> str:
    names = {
        "arguments": "argument_bytes",
        "outputs": "output_bytes",
        "donated": "alias_bytes",
        "constants": "constant_bytes",
    }
    texts = [
        f"{name} {change_text(getattr(old, field), getattr(entry, field))}"
        for name, field in names.items()
        if getattr(old, field) != getattr(entry, field)
    ]
    return ", ".join(texts)
