"""Mutations of source code: one small wrong change each, to find out whether a test notices.

`sites(source)` lists every mutation of a file; `mutate(source, site)` applies one. They are the
usual ones (DeMillo, Lipton and Sayward 1978; names as in mutmut): comparisons, arithmetic,
constants, boolean logic, branches, swapped arguments and targets, left-out statements and keywords,
and a function beside its sibling (`minimum` for `maximum`).

Not mutated, since no behaviour hangs on it: annotations, decorators, docstrings, `__all__`, the
texts of errors, f-strings, default values of configurations, `key=` and `strict=`.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = (
    ("minimum", "maximum"),
    ("min", "max"),
    ("argmin", "argmax"),
    ("sin", "cos"),
    ("mean", "sum"),
    ("any", "all"),
    ("exp", "expm1"),
    ("floor", "ceil"),
    ("zeros_like", "ones_like"),
    ("zeros", "ones"),
    ("append", "remove"),
)
SIBLINGS = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
# Swapping their arguments changes nothing.
SYMMETRIC = {"minimum", "maximum", "min", "max", "logaddexp", "hypot", "gcd", "lcm", "allclose"}


@dataclass(frozen=True)
class Site:
    """One mutation: the span it replaces (line from 1, columns in UTF-8 bytes) and the new text."""

    line: int
    column: int
    end_line: int
    end_column: int
    operator: str
    text: str


def mutate(source: str, site: Site) -> str:
    """The source with the span of `site` replaced."""
    lines = source.encode().splitlines(keepends=True)
    first, last = lines[site.line - 1], lines[site.end_line - 1]
    joined = first[: site.column] + site.text.encode() + last[site.end_column :]
    return b"".join([*lines[: site.line - 1], joined, *lines[site.end_line :]]).decode()


def sites(source: str) -> list[Site]:
    """All mutations of a file, in the order of its lines; each one parses and differs."""
    found = {}
    for node, new, operator in _walk(ast.parse(source)):
        text = ast.unparse(new)
        if isinstance(new, ast.expr):
            text = f"({text})"
        site = Site(
            node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, operator, text
        )
        found.setdefault((site.line, site.column, site.end_line, site.end_column, text), site)
    return sorted(found.values(), key=lambda site: (site.line, site.column, site.text))


def _walk(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """(node, what replaces it, name of the operator) for a node and all below it."""
    yield from _mutations(node)
    for child in _children(node):
        yield from _walk(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The children that behaviour hangs on."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _without_behaviour(child, node):
                yield child


def _without_behaviour(child: ast.AST, parent: ast.AST) -> bool:
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True  # a docstring
    if isinstance(child, ast.Assign) and getattr(child.targets[0], "id", "") == "__all__":
        return True
    if isinstance(child, ast.AnnAssign) and isinstance(parent, ast.ClassDef):
        return True  # a field and its default
    return isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"


def _mutations(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            yield node, _with(node, ops=[COMPARISONS[type(op)]()]), "comparison"
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not _is_text(node):
            yield node, _with(node, op=ARITHMETIC[type(op)]()), "arithmetic"
        case ast.AugAssign(op=op) if type(op) in ARITHMETIC:
            yield node, _with(node, op=ARITHMETIC[type(op)]()), "arithmetic"
        case ast.BoolOp(op=op):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield node, _with(node, op=other), "boolean"
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield node, operand, "unary"
        case ast.Constant(value=value) if isinstance(value, bool):
            yield node, ast.Constant(not value), "constant"
        case ast.Constant(value=value) if isinstance(value, int):
            yield node, ast.Constant(value + 1), "constant"
        case ast.Constant(value=value) if isinstance(value, float):
            yield node, ast.Constant(value * 2 if value else 1.0), "constant"
        case ast.IfExp(body=body, orelse=orelse):
            yield node, _with(node, body=orelse, orelse=body), "branch"
        case ast.If(test=test) | ast.While(test=test):
            yield test, ast.UnaryOp(ast.Not(), test), "branch"
        case ast.Call():
            yield from _call(node)
        case ast.Assign(targets=[ast.Tuple(elts=[a, b, *rest]) as target]):
            yield target, _with(target, elts=[b, a, *rest]), "swap"
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield node, ast.Pass(), "statement"
        case ast.Raise() | ast.Continue() | ast.Break():
            yield node, ast.Pass(), "statement"


def _call(node: ast.Call) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    args, first = node.args, 1 if name in ("where", "select") else 0
    pair = args[first : first + 2]
    if len(pair) == 2 and name not in SYMMETRIC:
        if not any(isinstance(arg, ast.Starred) for arg in pair):
            swapped = [*args[:first], *pair[::-1], *args[first + 2 :]]
            yield node, _with(node, args=swapped), "swap"
    for index, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "key", "encoding", "strict"):
            rest = [*node.keywords[:index], *node.keywords[index + 1 :]]
            yield node, _with(node, keywords=rest), "keyword"
    func = node.func
    if isinstance(func, ast.Attribute) and func.attr in SIBLINGS:
        yield node, _with(node, func=_with(func, attr=SIBLINGS[func.attr])), "sibling"
    elif isinstance(func, ast.Name) and func.id in SIBLINGS:
        yield node, _with(node, func=ast.Name(SIBLINGS[func.id])), "sibling"


def _with(node: ast.AST, **fields) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str)
        for side in (node.left, node.right)
    )
