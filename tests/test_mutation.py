"""The mutations that `make mutants` tries: which there are; each changes one place only."""

import ast
import textwrap

import pytest

from tests.mutation import mutate, sites


def mutated(source: str) -> set[str]:
    """Every mutation of a piece of source, as unparsed code."""
    return {ast.unparse(ast.parse(mutate(source, site))) for site in sites(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a == b", {"x = a != b"}),
        ("x = a + b", {"x = a - b"}),
        ("x //= y", {"x *= y"}),
        ("x = not a", {"x = a"}),
        ("x = -a", {"x = a"}),
        ("x = a and b", {"x = a or b"}),
        ("x = 3", {"x = 4"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = True", {"x = False"}),
        ("x = a if b else c", {"x = c if b else a"}),
        ("k, v, rest = f", {"v, k, rest = f"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = jnp.where(m, a, b)", {"x = jnp.where(m, b, a)"}),
        ("x = jnp.minimum(a, b)", {"x = jnp.maximum(a, b)"}),
        ("x = f(a=b)", {"x = f()"}),
        ("f(a)", {"pass"}),
        ("if a:\n    b = c", {"if not a:\n    b = c"}),
        ("if a:\n    raise E(1)", {"if not a:\n    raise E(1)", "if a:\n    pass"}),
    ],
)
def test_operators(source, expected):
    assert mutated(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "__all__ = ['a' + 'b']",
        "def f(x: g(1, 2)) -> h(3): ...",
        "@d(1)\ndef f(): ...",
        "class C:\n    rate: float = 0.5",
        "x = f'{a + 1}'",
        "import a",
        "x = f(a, key=b)",
        "x = jnp.hypot(a, b)",
    ],
)
def test_what_no_behaviour_hangs_on(source):
    assert mutated(source) == set()


def test_one_place_changes_and_text_before_it_may_be_wide():
    source = textwrap.dedent(
        """\
        name = "größe"  # naïve
        size = "ü", a + b
        kept = c
        """
    )
    (site,) = sites(source)
    assert (site.line, site.operator) == (2, "arithmetic")
    assert mutate(source, site) == source.replace("a + b", "(a - b)")


def test_a_mutation_over_several_lines():
    source = "x = f(\n    a,\n    b,\n)\ny = 'z'\n"
    assert mutate(source, sites(source)[0]) == "x = (f(b, a))\ny = 'z'\n"
