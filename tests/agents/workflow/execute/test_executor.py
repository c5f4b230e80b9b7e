"""What happens to memory, to what fails, and to plans that do not suit."""

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.execute.evaluate import StageError
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.program import Program
from loomax.agents.workflow.execute.swap import on_host
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space
from loomax.agents.workflow.stage import Stage, loop

first = Stage("first", lambda w, x: x @ w, resident=(0,))
second = Stage("second", lambda w, x: (w + x.sum(), x), resident=(0,), batch_axis=None)


def run(*units, devices=1, batch=8, ring=None):
    return Run(units, devices, batch, 1.0, 0, 0, ring)


def two(a, b, x):
    a = a if isinstance(a, tuple) else (a,)
    b, x = second(b, first(a[0], x))
    return a[0], b, x


def draw():
    return jnp.ones((4, 4)), jnp.ones((4, 4)), jnp.ones((8, 4))


def live(shape) -> int:
    """Buffers of a shape in device memory; several arrays may share one."""
    gc.collect()  # The shapes are of this test alone: others leave arrays in the same process.
    found = [x for x in jax.live_arrays() if not x.is_deleted() and not on_host(x)]
    return len({x.unsafe_buffer_pointer() for x in found if x.shape == shape})


@pytest.mark.parametrize("swap", [False, True])
def test_what_waits_is_not_on_the_device(swap):
    seen = {}

    def looking(name, fn):
        def call(*args):
            seen[name] = live((4, 23)), live((23, 4))
            return fn(*args)

        return call

    one = Stage("one", looking("one", lambda a, x: x @ a), (0,), fusable=False)
    other = Stage("other", looking("other", lambda b, x: x @ b), (0,), fusable=False)

    def program(a, b, x):
        return a, b, other(b, one(a, x))

    a, b, x = jnp.ones((4, 23)), jnp.ones((23, 4)), jnp.ones((8, 4))
    plan = Shared(run("one"), run("other"), swap, 0.0, 0.0)
    execute = Executor(program, plan, a, b, x, donate=(0, 1))
    for result in (92.0, 92.0**2):
        a, b, x = execute(a, b, x)
        assert seen == {"one": (1, int(not swap)), "other": (int(not swap), 1)}
        np.testing.assert_array_equal(x, np.full((8, 4), result))
    np.testing.assert_array_equal(a, np.ones((4, 23)))


def test_swapped_residents_are_gone_from_the_device():
    plan = Shared(run("first"), run("second"), True, 0.0, 0.0)
    a, b, x = draw()
    found = Executor(two, plan, a, b, x, donate=(0, 1))(a, b, x)
    assert a.is_deleted() and b.is_deleted() and not x.is_deleted()
    assert on_host(found[0]) and not on_host(found[1])
    kept, b, x = draw()
    Executor(two, plan, kept, b, x)(kept, b, x)
    assert not kept.is_deleted()


def test_donation_is_respected():
    plan = Shared(run("first"), run("second"), False, 0.0, 0.0)
    a, b, x = draw()
    execute = Executor(two, plan, a, b, x, donate=(1,))
    found = execute(a, b, x)
    assert b.is_deleted() and not a.is_deleted() and not x.is_deleted()
    # What lies between the stages is reused as well; w and x have shapes of their own.
    assert len(execute.programs["second"].donated) == 2
    assert not execute.programs["first"].donated
    np.testing.assert_array_equal(found[1], np.full((4, 4), 1 + 8 * 4 * 4.0))
    kept = draw()
    Executor(two, plan, *kept)(*kept)
    assert not any(x.is_deleted() for x in kept)


def test_an_output_that_is_an_input_does_not_lose_it():
    same = Stage("same", lambda x: (x, x * 2))
    grow = Stage("grow", lambda x: x + 1)

    def program(x):
        kept, double = same(x)
        return grow(kept), double

    x = jnp.ones((8,))
    plan = Shared(run("same"), run("grow"), False, 0.0, 0.0)
    found = Executor(program, plan, x)(x)
    assert not x.is_deleted()
    np.testing.assert_array_equal(found[0], np.full(8, 2.0))


def test_shared_meshes_move_nothing():
    a, b, x = draw()
    execute = Executor(
        two, Shared(run("first", devices=2), run("second", devices=2), False, 0, 0), a, b, x
    )
    _, b, x = execute(a, b, x)
    assert isinstance(execute.programs["second"], Program)
    where = execute.programs["second"].places
    reads = dict(zip(("b", "x"), execute.programs["second"].reads, strict=True))
    assert b.sharding == where[reads["b"]] and len(x.sharding.device_set) == 2
    pointers = [shard.data.unsafe_buffer_pointer() for shard in b.addressable_shards]
    moved = jax.device_put(b, where[reads["b"]])
    assert [s.data.unsafe_buffer_pointer() for s in moved.addressable_shards] == pointers


def test_constants_of_a_program_are_cut_too():
    add = Stage("add", lambda x, y: x + y)
    offsets = np.arange(8.0, dtype=np.float32)
    x = jnp.ones((8,))
    plan = Chunks(run("add", devices=2, batch=4), 2)
    found = Executor(lambda x: add(x, offsets), plan, x)(x)
    np.testing.assert_array_equal(found, offsets + 1)


@pytest.mark.parametrize("fusable", [True, False])
def test_a_failing_stage_names_itself(fusable):
    def fail(x):
        # Shapes are asked for first, when the program is recorded.
        if len(calls) == 1:
            raise OSError("no simulator")
        calls.append(x)
        return x

    calls = []
    bad = Stage("bad", fail, fusable=fusable)
    good = Stage("good", lambda x: x)
    x = jnp.ones((8,))
    plan = run("good", "bad") if fusable else Shared(run("good"), run("bad"), False, 0.0, 0.0)
    execute = Executor(lambda x: bad(good(x)), plan, x)
    with pytest.raises(StageError, match="stage 'bad' failed: no simulator") as caught:
        execute(x)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_loop_with_a_stage_that_is_not_jax():
    double = Stage("double", lambda x: x * 2)
    step = Stage("step", lambda x: x + 1, fusable=False)
    x = jnp.ones((8,))
    program = lambda x: loop(lambda x: double(step(x)), x, 3)  # noqa: E731
    found = Executor(program, run("step+double", devices=2), x)(x)
    np.testing.assert_array_equal(found, np.full(8, 22.0))


def later(w, x):
    w = Stage("learn", lambda w, x: w + x.sum(), resident=(0,), batch_axis=None)(w, x)
    return first(w, x)


def unlinked(x):
    a, b = Stage("a", lambda x: x), Stage("b", lambda x: x)
    return loop(lambda pair: (a(pair[0]), b(pair[1])), (x, x), 2)


def mixed(w, x):
    return Stage("host", lambda x: x, fusable=False)(first(w, x))


W, X = jax.ShapeDtypeStruct((4, 4), jnp.float32), jax.ShapeDtypeStruct((8, 4), jnp.float32)
RING = Ring((Station("first", 1, 1.0),), 1, 1)


@pytest.mark.parametrize(
    ("program", "plan", "inputs", "options", "message"),
    [
        (two, run("first"), (W, W, X), {}, "the plan runs first; the program has first, second"),
        (two, run("first", "second", devices=9), (W, W, X), {}, "needs 9 devices, there are 8"),
        (two, run("first", "second"), (W, W, X), {"donate": (3,)}, "donate has 3: .* 3 inputs"),
        (
            later,
            Space(run("first"), run("learn"), 0.0, True),
            (W, X),
            {},
            "runs 'first' before 'learn', whose output",
        ),
        (unlinked, run("a", "b"), (X,), {}, "the program has a.b: .*feed each other"),
        (mixed, run("first", "host"), (W, X), {}, "fuses first, host, of which some are not fus"),
        (
            two,
            Chunks(run("first", "second", batch=4), 2),
            (W, W, X),
            {},
            "cuts first, second into microbatches: give all a batch_axis",
        ),
        (first, run("first", ring=RING), (W, X), {}, "a ring for 'first', which is no loop"),
        (lambda x: first(W, x) + 1, run("first"), (X,), {}, "compute with them inside a stage"),
    ],
)
def test_plans_that_do_not_suit(program, plan, inputs, options, message):
    with pytest.raises(ValueError, match=message):
        Executor(program, plan, *inputs, **options)


def test_items_along_two_axes():
    rows = Stage("rows", lambda x: x, batch_axis=0)
    columns = Stage("columns", lambda x: x, batch_axis=1)
    with pytest.raises(ValueError, match="'columns' has its items along axis 1 .* axis 0"):
        Executor(lambda x: columns(rows(x)), run("rows", "columns"), X)


def test_other_inputs_than_recorded():
    execute = Executor(two, run("first", "second"), W, W, X)
    with pytest.raises(ValueError, match="recorded for"):
        execute(jnp.ones((4, 4)), jnp.ones((4, 4)))
    with pytest.raises(ValueError, match=r"has shape \(6, 4\), .* another executor"):
        execute(jnp.ones((4, 4)), jnp.ones((4, 4)), jnp.ones((6, 4)))


def test_the_host_goes_on_while_a_stage_works_in_the_background():
    """The first microbatch waits in the background until the second one has come by."""
    second_came, seen = threading.Event(), []

    def pass_by(x):
        seen.append(x)
        # Shapes are asked for first, when the program is recorded.
        if len(seen) == 3:
            second_came.set()
        return x

    def wait(x):
        if not isinstance(x, jax.core.Tracer) and not second_came.wait(30):
            raise TimeoutError("the host did not go on")
        return x * 2

    before = Stage("before", pass_by, fusable=False)
    slow = Stage("slow", wait, fusable=False, background=True)
    then = Stage("then", lambda x: x + 1)
    x = jnp.arange(8.0)
    plan = Chunks(Shared(run("before", batch=4), run("slow", batch=4), False, 0.0, 0.0), 2)
    plan = Shared(plan, run("then"), False, 0.0, 0.0)
    found = Executor(lambda x: then(slow(before(x))), plan, x)(x)
    np.testing.assert_array_equal(found, np.arange(8.0) * 2 + 1)


def test_work_in_the_background_that_no_one_asks_for_fails_too():
    def fail(x):
        if not isinstance(x, jax.core.Tracer):
            raise OSError("the disk is full")
        return x

    note = Stage("note", fail, fusable=False, background=True)
    good = Stage("good", lambda x: x + 1)

    def program(x):
        note(x)
        return good(x)

    x = jnp.ones((8,))
    execute = Executor(program, Shared(run("note"), run("good"), False, 0.0, 0.0), x)
    for _ in range(2):
        with pytest.raises(StageError, match="stage 'note' failed: the disk is full"):
            execute(x)


def test_background_work_is_not_jax():
    with pytest.raises(ValueError, match="'s': what works in the background is not fusable"):
        Stage("s", lambda x: x, background=True)
