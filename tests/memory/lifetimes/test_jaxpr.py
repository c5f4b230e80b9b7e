"""Lifetimes of a jaxpr: worked out by hand, and against a brute-force sweep."""

import jax
import jax.numpy as jnp
import pytest

from loomax.memory.lifetimes.jaxpr import bytes_of, flatten, jaxpr_trace
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan

# Bytes of the (2, 4) and of the (4, 3) array, and of their product.
X, W, Y = 32, 48, 24


def small(x, w):
    with jax.named_scope("first"):
        a = jnp.sin(x)  # step 0
        b = a @ w  # step 1
    with jax.named_scope("second"):
        c = jnp.exp(b)  # step 2
        return c * b  # step 3


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def jaxpr(function, *shapes):
    return jax.make_jaxpr(function)(*(spec(*shape) for shape in shapes))


def spans(trace):
    return [(r.size, r.birth, r.death, r.kind) for r in trace.records]


def swept(trace):
    """Most bytes live at once, by counting at every time."""
    times = range(min(r.birth for r in trace.records), max(r.death for r in trace.records))
    return max(sum(r.padded for r in trace.records if r.birth <= t < r.death) for t in times)


def test_a_small_function_by_hand():
    trace = jaxpr_trace(jaxpr(small, (2, 4), (4, 3)), alignment=1)
    assert spans(trace) == [
        (X, 0, 4, "input"),
        (W, 0, 4, "input"),
        (X, 0, 2, "temporary"),
        (Y, 1, 4, "temporary"),
        (Y, 2, 4, "temporary"),
        (Y, 3, 4, "output"),
    ]
    phases = [record.phase for record in trace.records[2:]]
    assert phases == ["first -> first", "first -> second", "second -> second", "second -> end"]
    assert trace.lower_bound == X + W + 3 * Y


def test_in_place_results_take_what_dies():
    trace = jaxpr_trace(jaxpr(small, (2, 4), (4, 3)), alignment=1, reuse=True)
    c, out = trace.records[4:]
    assert c.alias == out.alias != "" and c.death == out.birth == 3
    assert trace.lower_bound == X + W + X + Y  # now at step 1
    plan = pack(trace)
    check_plan(trace, plan.offsets, plan.peak)


def test_an_input_is_never_overwritten():
    trace = jaxpr_trace(jaxpr(lambda x: jnp.sin(x) + 1.0, (4,)), reuse=True)
    assert [bool(record.alias) for record in trace.records] == [False, True, True]


@pytest.mark.parametrize(
    "wrap",
    [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.jit(f))],
    ids=["jit", "checkpoint", "twice"],
)
def test_nested_calls_are_read_through(wrap):
    plain = spans(jaxpr_trace(jaxpr(small, (2, 4), (4, 3))))
    assert spans(jaxpr_trace(jaxpr(wrap(small), (2, 4), (4, 3)))) == plain


def test_functions_with_their_own_derivative_are_read_through():
    program = flatten(jaxpr(lambda x: jax.nn.relu(jax.nn.silu(x)), (4,)))
    assert {"logistic", "mul", "max"} <= {step.primitive for step in program.steps}

    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    assert [step.primitive for step in flatten(jaxpr(function, (4,))).steps] == ["sin"]


def test_a_loop_is_one_step():
    program = flatten(jaxpr(lambda x: jax.lax.scan(lambda c, _: (c * 2, c), x, length=3)[1], (4,)))
    step = program.steps[-1]
    assert step.primitive == "scan" and [program.sizes[v] for v in step.writes] == [16, 48]


def test_views_are_their_operand():
    def function(x):
        return jnp.exp(jnp.transpose(jnp.sin(x).reshape(2, 2)))

    assert len(jaxpr_trace(jaxpr(function, (4,))).records) == 5
    trace = jaxpr_trace(jaxpr(function, (4,)), views=True, alignment=1)
    assert spans(trace) == [
        (16, 0, 2, "input"),
        (16, 0, 2, "temporary"),
        (16, 1, 2, "output"),
    ]


def test_constants_and_results_that_nobody_reads():
    table = jnp.arange(5.0)

    def function(x):
        jnp.cos(x)
        return x, table + 1.0, 3.0

    trace = jaxpr_trace(jaxpr(function, (4,)), alignment=1)
    assert spans(trace) == [
        (16, 0, 2, "input"),
        (20, 0, 2, "constant"),
        (16, 0, 1, "temporary"),
        (20, 1, 2, "output"),
    ]


def test_nothing_is_an_empty_program():
    trace = jaxpr_trace(jaxpr(lambda x: x, (4,)))
    assert [(r.birth, r.death) for r in trace.records] == [(0, 1)]


def test_bytes_of_what_is_no_array():
    assert bytes_of(object()) == 0
    assert bytes_of(jax.ShapeDtypeStruct((3,), jnp.bfloat16)) == 6


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("views", [False, True])
def test_the_lower_bound_is_the_sweep(reuse, views):
    def loss(x, w):
        return jnp.sum(jax.nn.softmax(jnp.tanh(x @ w).reshape(-1, 2)) ** 2)

    trace = jaxpr_trace(jaxpr(jax.grad(loss, (0, 1)), (4, 6), (6, 8)), views=views)
    assert trace.lower_bound == swept(trace)
    again = jaxpr_trace(jaxpr(jax.grad(loss, (0, 1)), (4, 6), (6, 8)), views=views, reuse=reuse)
    assert again.lower_bound <= trace.lower_bound
