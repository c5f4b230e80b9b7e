"""Options for the entries of a config's lists, such as `--stages.0.steps 100`."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from loomax.runtime.config import fail, take_option

ConfigT = TypeVar("ConfigT")


def take_items(config: ConfigT, argv: Sequence[str], prog: str) -> tuple[ConfigT, list[str]]:
    """Splits these options off `argv`; returns the config with them and what is left.

    An option for an entry that there is not stays, to be refused with the others.
    """
    changed: Any = config
    for field in dataclasses.fields(changed):
        items = getattr(changed, field.name)
        if not isinstance(items, tuple) or not all(map(dataclasses.is_dataclass, items)):
            continue
        made = []
        for index, item in enumerate(items):
            item, argv = _take_fields(item, argv, f"--{field.name}.{index}.", prog)
            made.append(item)
        changed = dataclasses.replace(changed, **{field.name: tuple(made)})
    return changed, list(argv)


def _take_fields(item: Any, argv: Sequence[str], prefix: str, prog: str) -> tuple[Any, list[str]]:
    for field in dataclasses.fields(item):
        option = prefix + field.name.replace("_", "-")
        value, argv = take_option(argv, option, prog)
        if value is None:
            continue
        kind = type(getattr(item, field.name))
        try:
            item = dataclasses.replace(item, **{field.name: kind(value)})
        except ValueError:
            fail(prog, f"{option} is {value!r}: it must be {kind.__name__}")
    return item, list(argv)
