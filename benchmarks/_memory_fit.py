"""What does `fit` find that a plain `jax.checkpoint` leaves on the table? The compilers' word.

Of a training step of a small language model, AdamW and all:

    fit-v5e   four layers on one TPU v5e chip: the least peak that `fit` reaches at no more
              arithmetic than `jax.checkpoint` on every layer (its budget is `ASKED` of that peak)
    fit-h100  eight layers on one H100: the largest batch within 4,000 MiB, against the largest of
              a scan of checkpointed layers

Each part needs its compiler (libtpu; JAX's CUDA plugin) and is left out, with a line, without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks._memory_remat import Size, layer, parameters
from benchmarks._rows import Row, compare
from loomax.memory.forms.batch import largest_batch
from loomax.memory.forms.fit import finish, search_of
from loomax.memory.forms.form import Form
from loomax.memory.forms.search import Search, Try
from loomax.runtime.target import Target, parse_target

BENCH = "memory"
ASKED = 0.78
MIB = 2**20
NO_LIMIT = 2**50
AS_WRITTEN = Form()
OPTIMISER = optax.adamw(1e-3)


@dataclass(frozen=True)
class Case:
    """A small language model and its batch."""

    size: Size
    vocab: int
    microbatches: tuple[int, ...] = ()


V5E = Case(Size(layers=4, width=512, length=512, batch=32, heads=8), 8192, (2, 4))
H100 = Case(Size(layers=8, width=1024, length=1024, batch=4, heads=16), 8192)
H100_BUDGET = 4000 * MIB
QUICK = Case(Size(layers=2, width=64, length=64, batch=4), 128, (2,))


def halved(tree: Any) -> Any:
    """In bfloat16."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)


def mixed(heads: int, p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A layer that holds float32 parameters and computes in bfloat16, as Flax modules do."""
    return layer(heads, halved(p), x)


def step(heads: int, state: Any, tokens: Any, *, form: Form = AS_WRITTEN) -> Any:
    """A step of AdamW on a list of layers between a tied embedding."""
    block = form.block(partial(mixed, heads))
    params, moments = state

    def loss(params: Any, tokens: Any) -> Any:
        embed = halved(params["embed"])
        x = form.run_layers(block, params["layers"], embed[tokens[:, :-1]])
        scores = (x @ embed.T).astype(jnp.float32)
        right = optax.softmax_cross_entropy_with_integer_labels(scores, tokens[:, 1:])
        return jnp.mean(right)

    value, slopes = form.value_and_grad(loss)(params, tokens)
    updates, moments = OPTIMISER.update(slopes, moments, params)
    return (optax.apply_updates(params, updates), moments), value


def arguments(case: Case) -> tuple[Any, Any]:
    """Shapes of parameters with moments, and of a batch."""
    size = case.size

    def state() -> Any:
        params = {
            "layers": parameters(size, key=jax.random.key(0)),
            "embed": jnp.zeros((case.vocab, size.width)),
        }
        return params, OPTIMISER.init(params)

    tokens = jax.ShapeDtypeStruct((size.batch, size.length + 1), jnp.int32)
    return jax.eval_shape(state), tokens


def tell(found: Try) -> None:
    verdict = found.verdict
    print(f"  {found}: {verdict.peak_bytes / MIB:.0f} MiB ({verdict.seconds:.0f} s)", flush=True)


def searched(case: Case, target: Target, budget: int) -> Search:
    """A search over forms of the step, before its first compilation."""
    run = partial(step, case.size.heads)
    return search_of(run, arguments(case), budget, target, batch=(1,), tell=tell, most=60)


def rows_v5e(case: Case, target: Target) -> list[Row]:
    """The least peak at no more arithmetic than plain recomputation, and that arithmetic."""
    search = searched(case, target, NO_LIMIT)
    # The compiler counts a loop's body once, so layers stay a list.
    search.bases = (Form(layers="list"),)
    plain = search.ask(Form("full", "list"))
    search.budget = int(ASKED * plain.verdict.peak_bytes)
    search.run(case.microbatches)
    best = min(no_dearer(search.tries, plain), key=lambda t: t.verdict.peak_bytes)
    print(f"fit-v5e: {best}")
    found = []
    for metric, unit, value in (
        ("peak_bytes", "B", lambda t: t.verdict.peak_bytes),
        ("flops", "FLOP", lambda t: t.flops),
    ):
        samples = {"fit-v5e": [value(best)], "jax.checkpoint": [value(plain)]}
        found += said("fit-v5e", metric, unit, samples, "jax.checkpoint", "lower", target)
    return found


def no_dearer(tries: Sequence[Try], plain: Try) -> list[Try]:
    """What compiled, at no more operations than `plain` by both counts.

    The compiler's own count holds for programs without loops only.
    """
    compiled = [t for t in tries if not t.verdict.error and t.flops <= plain.flops]
    most = plain.verdict.compiler_flops
    return [t for t in compiled if t.form.microbatches > 1 or t.verdict.compiler_flops <= most]


def rows_h100(case: Case, target: Target, budget: int) -> list[Row]:
    """The largest batches within the budget."""
    search = searched(case, target, budget)
    rows = case.size.batch
    scan = largest_batch(search, search.ask(Form("full", "scan")), rows, 1)
    search.run()
    ours = finish(search, rows=rows, largest=True).largest
    if scan is None or ours is None:
        raise RuntimeError(f"not even one row fits into {budget} bytes")
    print(f"fit-h100: {ours}")
    samples = {"fit-h100": [float(ours.batch or 0)], "scan-checkpoint": [float(scan.batch or 0)]}
    return said("fit-h100", "batch", "rows", samples, "scan-checkpoint", "higher", target)


def said(case: str, metric: str, unit: str, samples: Any, peer: str, better: Any, target: Any):
    """Rows of what a compiler says."""
    where = f"{target.kind} ({jax.__version__}, described)"
    source = f"{target.platform}-compiler"
    return compare(BENCH, metric, unit, samples, case, [peer], better, device=where, source=source)


def rows(quick: bool) -> list[Row]:
    """Both parts, as far as their compilers are here."""
    found: list[Row] = []
    for name, work in (
        ("tpu:v5e", lambda t: rows_v5e(QUICK if quick else V5E, t)),
        (
            "gpu:h100",
            lambda t: rows_h100(*((QUICK, t, 6 * MIB) if quick else (H100, t, H100_BUDGET))),
        ),
    ):
        try:
            target = parse_target(name)
        except ValueError as error:
            print(f"left out: {error}")
            continue
        found += work(target)
    return found
