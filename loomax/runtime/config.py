"""Named configs on the command line: `--config NAME --field value --nested.field value`."""

import contextlib
import dataclasses
import difflib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

import tyro

from loomax.runtime.bounds import check_settings, shorten
from loomax.runtime.options import marks_of

# What `tyro.conf.Positional` leaves in an annotation.
(POSITIONAL,) = tyro.conf.Positional[int].__metadata__
ConfigT = TypeVar("ConfigT")

USAGE_ERROR = 2
LONGEST_LINE = 1000


def parse(
    named: Mapping[str, ConfigT], argv: Sequence[str], prog: str, description: str
) -> ConfigT:
    """The config that `argv` asks for: a named one, with single fields changed.

    `--config NAME` may stand anywhere and defaults to the first name. Every field, nested ones
    too, can be overridden. A wrong name, field or value ends the program with one line on
    stderr and exit code 2; names are answered with the nearest known one.
    """
    name, rest = take_option(argv, "--config", prog)
    name = next(iter(named)) if name is None else name
    if name not in named:
        fail(prog, unknown("config", name, named))
    default = named[name]
    _check_flags(prog, rest, field_paths(default))
    text = f"{description}\n\n--config NAME picks one of: {', '.join(named)} (here: {name})."
    config = _quietly(prog, rest, text, type(default), default)
    try:
        check_settings(config, "--{}")
    except ValueError as error:
        fail(prog, str(error))
    return config


def parse_options(kind: type[ConfigT], argv: Sequence[str], prog: str, description: str) -> ConfigT:
    """The options of a small verb: a flat dataclass `kind`, filled from `argv`."""
    fields = dataclasses.fields(cast(Any, kind))
    _check_flags(prog, argv, [_spelling(field.name) for field in fields])
    for field in fields:
        if isinstance(field.default, tuple):
            _check_several(prog, argv, f"--{_spelling(field.name)}")
    options = _quietly(prog, argv, description, kind)
    try:
        _check_options(options)
    except ValueError as error:
        fail(prog, str(error))
    return options


def _check_options(options: Any) -> None:
    """Raises ValueError for an option that is empty, or outside of what its annotation says."""
    check_settings(options, "--{}")
    hints = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        placed = POSITIONAL in getattr(hint, "__metadata__", ())
        name = field.name if placed else f"--{_spelling(field.name)}"
        if value == "" and field.default != "":
            raise ValueError(f"{name} is empty: give a value")
        for mark in marks_of(hint) if value not in (None, "") else ():
            for item in value if isinstance(value, tuple) else (value,):
                mark.check(item, name)


def _check_several(prog: str, argv: Sequence[str], flag: str) -> None:
    """Refuses `flag` without a value: a verb would take it for the default, which is all."""
    for word, following in zip(argv, [*argv[1:], "--"], strict=False):
        if _spelling(word) == flag and following.startswith("--"):
            fail(prog, f"{flag} needs at least one value")


def merge(default: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """`default` with the fields that `values` (as read from JSON) gives, nested ones too.

    A field with `metadata={"absent": value}` has that value where `values` lacks it: what was done
    before there was such a field, and so what whatever was written then needs.

    Raises:
        ValueError: `values` holds a field that the config does not have, or of another type.
    """
    config: Any = default
    fields = dataclasses.fields(config)
    types = {field.name: field.type for field in fields}
    known = list(types)
    changes = {f.name: f.metadata["absent"] for f in fields if "absent" in f.metadata}
    for name, value in values.items():
        if name not in known:
            raise ValueError(unknown("field", name, known))
        old = getattr(config, name)
        if dataclasses.is_dataclass(old) and isinstance(value, Mapping):
            value = merge(old, value)
        elif isinstance(value, list):
            value = tuple(_like(old, item) for item in value)
        if not _fits(old, value, str(types[name])):
            raise ValueError(f"{name} is {shorten(value)}: it must be {type(old).__name__}")
        changes[name] = value
    return dataclasses.replace(config, **changes)


def _fits(old: Any, value: Any, kind: str) -> bool:
    """Whether JSON's `value` may replace `old`: of its type, or one that was not told."""
    if old is None or value is None:
        return old is None or "None" in kind
    if isinstance(old, float) or (isinstance(old, int) and "float" in kind):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dataclasses.is_dataclass(old):
        return dataclasses.is_dataclass(value)
    return isinstance(value, type(old)) and isinstance(value, bool) == isinstance(old, bool)


def _like(items: Any, value: Any) -> Any:
    """`value` as one of `items`: a mapping becomes a dataclass where those are."""
    nested = isinstance(items, tuple) and items and dataclasses.is_dataclass(items[0])
    return merge(items[0], value) if nested and isinstance(value, Mapping) else value


def take_option(argv: Sequence[str], option: str, prog: str) -> tuple[str | None, list[str]]:
    """Splits `option VALUE` or `option=VALUE` off `argv`; the last one wins."""
    value, rest, words = None, [], iter(argv)
    for word in words:
        if word == option:
            value = next(words, "")
            if not value or value.startswith("--"):
                fail(prog, f"{option} needs a value")
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
            if not value:
                fail(prog, f"{option} needs a value")
        else:
            rest.append(word)
    return value, rest


def take_flag(argv: Sequence[str], flag: str) -> tuple[bool, list[str]]:
    """Splits the word `flag` off `argv`."""
    return flag in argv, [word for word in argv if word != flag]


def take_command(
    argv: Sequence[str], kind: str, known: Iterable[str], prog: str, description: str
) -> tuple[str, list[str]]:
    """Splits the first word off `argv`, a command of a verb; --help prints `description`."""
    known, name = list(known), argv[0] if argv else ""
    if name in ("-h", "--help"):
        print(description)
        raise SystemExit(0)
    if not name or name.startswith("-"):
        fail(prog, f"usage: {prog} {'|'.join(known)} [OPTIONS]    ({prog} --help says more)")
    if name not in known:
        fail(prog, unknown(kind, name, known))
    return name, list(argv[1:])


def field_paths(config: Any, prefix: str = "") -> list[str]:
    """Names of all fields of a dataclass as the command line spells them, nested ones dotted.

    Those of dataclasses in a tuple have their place in it: `stages.0.steps`.
    """
    paths = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + _spelling(field.name)
        paths.append(name)
        items = enumerate(value) if isinstance(value, tuple) else ()
        nested = {f"{name}.{place}": item for place, item in items} or {name: value}
        for path, item in nested.items():
            if dataclasses.is_dataclass(item):
                paths += field_paths(item, path + ".")
    return paths


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A line that says that `name` is not known and which one is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def fail(prog: str, message: str, code: int = USAGE_ERROR) -> NoReturn:
    """Ends the program with one line on stderr and an exit code, by default that of wrong use."""
    print(f"{prog}: {one_line(message)}", file=sys.stderr)
    raise SystemExit(code)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, cut where it is very long."""
    words = " ".join(text.split())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words[:LONGEST_LINE])
    return shown if len(words) <= LONGEST_LINE else f"{shown}... ({len(words)} characters)"


def _spelling(field: str) -> str:
    return field.replace("_", "-")


def _check_flags(prog: str, argv: Sequence[str], paths: Sequence[str]) -> None:
    flags = [f"--{path}" for path in paths]
    for word in argv:
        flag = _spelling(word.partition("=")[0])
        positive = flag.replace("--no-", "--", 1).replace(".no-", ".", 1)
        if word.startswith("--") and not {flag, positive} & {*flags, "--help"}:
            fail(prog, unknown("field", flag, flags))


def _quietly(prog: str, argv: Sequence[str], text: str, kind: type[ConfigT], *default: ConfigT):
    """tyro, with its boxed error message pressed into one line."""
    captured = io.StringIO()
    given: dict[str, Any] = {"default": default[0]} if default else {}
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                cast(Any, kind),
                prog=prog,
                description=text,
                args=argv,
                # A field of several possible classes keeps the class of the named config.
                config=(tyro.conf.AvoidSubcommands,),
                **given,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(prog, _first_part(captured.getvalue()))


def _first_part(box: str) -> str:
    """The message of a tyro error box: what stands below its title and above its next rule.

    On a UTF-8 terminal the title is part of the frame; elsewhere it has a rule of dashes below.
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ")
        if text and not text.strip("─-"):
            parts.append([])
        elif text and text[0] not in "╭╰":
            parts[-1].append(text)
    said = [part for part in parts if part]
    framed = box.lstrip().startswith("╭")
    return " ".join(said[0 if framed or len(said) == 1 else 1])
