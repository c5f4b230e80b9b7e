"""`fit` on a small step: what it chooses, what it says, and that its step runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loomax.memory
from loomax.memory.forms.batch import largest_batch
from loomax.memory.forms.fit import fit, search_of
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program, Verdict, judge, wanted_bytes
from loomax.memory.forms.levers import CPU_MEMORY, DEFAULT
from loomax.memory.forms.search import DoesNotFitError, Search
from loomax.runtime.target import parse_target

ROWS, WIDTH, LAYERS = 64, 16, 3
# Above the bytes of its arguments, below what any form of the step needs.
TIGHTEST = 29_000
AS_WRITTEN = Form()


def layer(p, x):
    return x + jnp.tanh(x @ p["up"]) @ p["down"]


def step(params, x, *, form=AS_WRITTEN):
    block = form.block(layer)

    def loss(params, x):
        return jnp.mean(form.run_layers(block, params, x) ** 2)

    value, slopes = form.value_and_grad(loss)(params, x)
    return jax.tree.map(lambda p, slope: p - 0.1 * slope, params, slopes), value


@pytest.fixture(scope="module", autouse=True)
def verdicts(tmp_path_factory):
    """Verdicts of this file, shared between its tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("verdicts")
        patch.setattr("loomax.memory.forms.fit.cache_folder", lambda kind: folder / kind)
        yield folder / "fit"


@pytest.fixture(scope="module")
def args():
    key = jax.random.key(0)
    params = [
        {
            "up": jax.random.normal(jax.random.fold_in(key, 2 * i), (WIDTH, 4 * WIDTH)) / 4,
            "down": jax.random.normal(jax.random.fold_in(key, 2 * i + 1), (4 * WIDTH, WIDTH)) / 8,
        }
        for i in range(LAYERS)
    ]
    return params, jax.random.normal(key, (ROWS, WIDTH))


def peak_of(args, form):
    return search_of(step, args, 2**40, batch=(1,)).ask(form).verdict.peak_bytes


def test_a_large_budget_takes_the_step_as_it_is(args):
    plan = loomax.memory.fit(step, args, "1GiB", batch=(1,))
    assert plan.chosen.form == Form(layers="list")
    assert [t.form.remat for t in plan.tries] == ["none"]
    assert plan.donate == (0,)


@pytest.fixture(scope="module")
def tight(args):
    """A budget between no recomputation and all of it."""
    none, full = peak_of(args, Form(layers="list")), peak_of(args, Form("full", "list"))
    assert full < 0.8 * none
    told = []
    plan = fit(step, args, (none + full) // 2, batch=(1,), tell=told.append)
    assert told == list(plan.tries)
    return plan


def test_the_least_arithmetic_that_fits_is_chosen(tight):
    fitting = [t for t in tight.tries if t.verdict.peak_bytes <= tight.budget]
    assert tight.chosen in fitting
    assert tight.chosen.flops == min(t.flops for t in fitting)
    assert tight.chosen.form.remat != "none"
    # The compiler of this very machine says the same of the step that is handed out.
    compiled = tight.jit().lower(*jax.eval_shape(lambda *a: a, *tight_args())).compile()
    said = compiled.memory_analysis()
    live = said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
    assert live + said.temp_size_in_bytes == tight.chosen.verdict.peak_bytes


def tight_args():
    shape = {"up": jnp.zeros((WIDTH, 4 * WIDTH)), "down": jnp.zeros((4 * WIDTH, WIDTH))}
    return [shape] * LAYERS, jnp.zeros((ROWS, WIDTH))


def test_its_step_learns_what_the_given_one_learns(tight, args):
    want = jax.jit(step)(*args)
    got = tight.jit()(jax.tree.map(jnp.copy, args[0]), args[1])
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_plan_as_text(tight):
    lines = tight.lines()
    assert lines[0].startswith("cpu, ")
    assert lines[1] == "donated: argument 0"
    assert len(lines) == 3 + len(tight.tries)
    assert sum(line.endswith(("fits", "too large")) for line in lines) == len(tight.tries)


def test_a_second_search_compiles_nothing(tight, args, verdicts, monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr("loomax.memory.forms.judge._compile", refuse)
    again = fit(step, args, tight.budget, batch=(1,))
    assert again.chosen == tight.chosen
    assert list(verdicts.glob("*.json"))


def test_a_damaged_verdict_is_asked_for_again(args, tmp_path):
    program, target = Program(lambda x: x * 2, (args[1],)), parse_target("cpu")
    first = judge(program, target, DEFAULT, tmp_path)
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:20])
    assert judge(program, target, DEFAULT, tmp_path).peak_bytes == first.peak_bytes
    assert judge(program, target, CPU_MEMORY, tmp_path).program != first.program


def test_the_largest_batch(args):
    search = search_of(step, args, peak_of(args, Form("full", "list")) * 2, batch=(1,))
    start = search.ask(Form("full", "list"))
    found = largest_batch(search, start, ROWS, 8)
    assert found.batch % 8 == 0
    assert found.verdict.peak_bytes <= search.budget
    assert search.ask(start.form, DEFAULT, found.batch + 8).verdict.peak_bytes > search.budget


def linear(fixed, each):
    """A search whose compiler takes `fixed` bytes and `each` a row."""

    class Told(Search):
        def ask(self, form, lever=DEFAULT, batch=None):
            size = fixed + each * (batch or ROWS)
            verdict = Verdict(size, 0, 0, 0, 0, 1.0, 1.0, "", 0.0)
            found = super_try(form, lever, batch, verdict)
            self.tries.append(found)
            return found

    return Told(lambda *_: None, parse_target("cpu"), 10_000)


def super_try(form, lever, batch, verdict):
    from loomax.memory.forms.search import Try

    return Try(form, lever, batch, verdict, 1.0)


@pytest.mark.parametrize(("fixed", "each", "best"), [(100, 7, 1414), (9_990, 5, 2), (0, 10_001, 0)])
def test_a_line_is_followed_to_the_last_row(fixed, each, best):
    search = linear(fixed, each)
    found = largest_batch(search, search.ask(Form()), ROWS, 1)
    assert (found.batch if found else 0) == best
    assert len(search.tries) <= 16


def test_nothing_fits(args):
    with pytest.raises(DoesNotFitError) as caught:
        fit(step, args, TIGHTEST, batch=(1,), most=6)
    least = min(t.verdict.peak_bytes for t in caught.value.tries)
    text = str(caught.value)
    assert "nothing fits into 28.3 KiB on cpu: the smallest form" in text
    assert f"({least - TIGHTEST} bytes) too much" in text
    assert "Its peak holds" in text
    assert "KiB" in text.partition("Its peak holds")[2]


def test_a_step_without_forms_has_its_compilers_levers(args):
    def plain(params, x):
        return step(params, x)

    plan = fit(plain, args, "1GiB")
    assert [str(t.lever.name) for t in plan.tries] == ["default"]
    assert plan.step is plain and plan.donate == (0,)
    want = jax.jit(plain)(*args)
    got = plan.jit()(jax.tree.map(jnp.copy, args[0]), args[1])
    jax.tree.map(np.testing.assert_array_equal, got, want)
    with pytest.raises(DoesNotFitError) as caught:
        fit(plain, args, TIGHTEST)
    assert {t.lever.name for t in caught.value.tries} == {"default", "memory scheduler"}


ARGUMENTS = 4 * (LAYERS * 2 * WIDTH * 4 * WIDTH + ROWS * WIDTH)


@pytest.mark.parametrize("stepped", [step, lambda params, x: step(params, x)])
def test_arguments_that_are_too_large_are_told_before_any_compilation(args, stepped, monkeypatch):
    monkeypatch.setattr("loomax.memory.forms.judge._compile", None)
    for budget in (1, "1KB", ARGUMENTS - 1):
        with pytest.raises(DoesNotFitError) as caught:
            fit(stepped, args, budget, batch=1)
        assert not caught.value.tries
        assert f"the arguments of the step alone take 28.0 KiB ({ARGUMENTS} bytes)" in str(
            caught.value
        )
    # At the very bytes the compiler is asked.
    with pytest.raises(TypeError, match="NoneType"):
        fit(stepped, args, ARGUMENTS, batch=1)


def test_ctrl_c_keeps_what_is_known(args):
    def tell(found):
        if found.form.remat == "full":
            raise KeyboardInterrupt

    plan = fit(step, args, peak_of(args, Form("full", "list")), batch=(1,), tell=tell)
    assert plan.interrupted
    assert plan.chosen.form == Form("full", "list")
    assert "stopped by Ctrl-C" in "\n".join(plan.lines())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": "15 pounds"}, "budget is '15 pounds', no number of bytes"),
        ({"budget": 0}, "budget is 0, which is 0 bytes: give at least 1"),
        ({"budget": True}, "budget is True, no number of bytes"),
        ({"budget": float("inf")}, "budget is inf, no number of bytes"),
        ({"most": 0}, "most is 0: give at least 1 compilation"),
        ({"largest": True}, "largest needs batch"),
        ({"batch": (True,)}, "batch has True: give numbers of arguments"),
        ({"batch": 2}, "batch has 2: the step has arguments 0 to 1"),
        ({"target": "tpu:v5"}, "unknown target 'tpu:v5': did you mean tpu:v5"),
        ({"target": "cpu:x"}, "write cpu, or cpu:4"),
        ({"batch": (2,)}, "batch has 2: the step has arguments 0 to 1"),
        ({"donate": (5,)}, "donate has 5: the step has arguments 0 to 1"),
    ],
)
def test_bad_arguments(args, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(step, args, **({"budget": "1GiB"} | changes))


def test_a_batch_of_two_lengths_is_refused(args):
    with pytest.raises(ValueError, match="leading axes .* of the batch differ"):
        fit(step, args, "1GiB", batch=(0, 1))


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("Used 20.50G of 15.75G hbm. Exceeded", int(20.5 * 2**30)),
        ("for HLO temporaries (385.5M) exceeds available HBM (366.00M).", int(385.5 * 2**20)),
        ("something else", 0),
    ],
)
def test_what_the_tpu_compiler_would_have_needed(message, size):
    assert wanted_bytes(message) == size
