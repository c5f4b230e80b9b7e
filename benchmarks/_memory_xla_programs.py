"""Our models' programs, lowered for a device that need not be here: instances of packing.

Sizes are small, since packing depends on which buffers meet and not on how large they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import _memory_remat as layers
from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.learner import Learner
from loomax.agents.pretrain.presets import tiny
from loomax.agents.rl import aot
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.parts import build
from loomax.agents.rl.presets import quickstart
from loomax.agents.rl.toy import point_mass
from loomax.memory.schedule.remat import remat
from loomax.models.lm import LMConfig, decode, empty_cache, prefill, shapes, verify
from loomax.models.lm.presets import transformer_debug, transformer_tiny, yoco_tiny
from loomax.models.vision.siglip import Siglip, SiglipShape
from loomax.runtime.mesh import MeshConfig, make_mesh, on_mesh

Lower = Callable[[Mesh], jax.stages.Lowered]
MIXERS = ("gated_retention", "sliding_window", "gated_deltanet")
MEMORY_FIRST = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
EVERY_FORM = ("yoco-gated_retention", "transformer")
SLOTS, BLOCK, ANSWER = 512, 256, 4


@dataclass(frozen=True)
class Instance:
    """A program and how it is compiled.

    Args:
        lower: gives the program for a mesh of one device.
        options: of the compiler.
    """

    name: str
    lower: Lower
    options: Mapping[str, str] = field(default_factory=dict)


def one_device(devices: Any) -> Mesh:
    """A mesh of the first device."""
    return make_mesh(MeshConfig(), [devices[0]])


def on(mesh: Mesh, make: Callable[[], Any]) -> Any:
    """Shapes of what `make` returns, on the mesh."""
    where = NamedSharding(mesh, PartitionSpec())
    return aot.shaped(jax.eval_shape(make), where)


def lowered(mesh: Mesh, function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Any:
    with on_mesh(mesh):
        return jax.jit(function, donate_argnums=donate).lower(*args)


def language_step(model: LMConfig, mesh: Mesh, length: int = 256, batch: int = 4) -> Any:
    """A step of pretraining."""
    stage = StageConfig(length=length, batch=batch, steps=2, lr=1e-3, end_lr=1e-4)
    config: PretrainConfig = replace(tiny("xla", model), stages=(stage,))
    learner = Learner(config, mesh)
    key = jax.random.key(0)
    state = on(mesh, lambda: learner.draw(key=key))
    ids, weights = (on(mesh, partial(jnp.zeros, (batch, length + 1), t)) for t in (int, float))
    step = partial(learner.step, stage)
    return lowered(mesh, step, state, ids, ids, weights, donate=(0,))


def prompt(model: LMConfig, mesh: Mesh) -> Any:
    """A prefill of 256 tokens, four rows."""
    tokens = on(mesh, lambda: jnp.zeros((4, BLOCK), jnp.int32))
    run = partial(prefill, model, slots=SLOTS)
    return lowered(mesh, run, _params(model, mesh), tokens)


def token(model: LMConfig, mesh: Mesh) -> Any:
    """A decoding step of four rows."""
    cache = on(mesh, lambda: empty_cache(model, 4, SLOTS))
    ids = on(mesh, lambda: jnp.zeros((4,), jnp.int32))
    return lowered(mesh, partial(decode, model), _params(model, mesh), cache, ids, donate=(1,))


def needles(model: LMConfig, mesh: Mesh) -> Any:
    """The answers of a needle evaluation, checked at once behind the prompt."""

    def check(params, cache, given, answer):
        scores, _ = verify(model, params, cache, given)
        return (scores.argmax(-1) == answer).all(-1)

    cache = on(mesh, lambda: empty_cache(model, 4, SLOTS))
    ids = on(mesh, lambda: jnp.zeros((4, ANSWER), jnp.int32))
    return lowered(mesh, check, _params(model, mesh), cache, ids, ids)


def _params(model: LMConfig, mesh: Mesh) -> Any:
    return on(mesh, lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes(model)))


def action_step(part: str, mesh: Mesh, **changes: Any) -> Any:
    """A step of our vision-language-action model: "sft", or the "update" on a minibatch."""
    config = quickstart()
    policy: Any = config.policy
    policy = replace(policy, model=replace(policy.model, **changes))
    rollout = replace(config.rl.rollout, envs=32, store_context=False)
    optimiser = replace(config.rl.optimiser, minibatches=4)
    config = replace(
        config,
        policy=policy,
        sft=replace(config.sft, episodes=8, batch=32),
        rl=replace(config.rl, rollout=rollout, optimiser=optimiser),
    )
    return training(config, part, mesh)


def toy_iteration(algorithm: str, mesh: Mesh) -> Any:
    """An iteration of RL with a small MLP on the point mass: rollout, returns and updates."""
    config = point_mass(algorithm)
    rollout = replace(config.rl.rollout, envs=64)
    return training(replace(config, rl=replace(config.rl, rollout=rollout)), "iteration", mesh)


def training(config: TrainConfig, part: str, mesh: Mesh) -> Any:
    """One of the programs that `loomax aot train` compiles."""
    with on_mesh(mesh):
        parts = build(config, mesh)
        program = aot.PROGRAMS[part](config, parts, aot.abstract_state(parts))
        key = on(mesh, lambda: jax.random.key(0))
        return program.run.lower(*program.args, **({"key": key} if program.key else {}))


def vision_step(policy: str, mesh: Mesh) -> Any:
    """A step of descent on a small vision transformer."""
    shape = SiglipShape(size=56, patch=14, width=64, depth=3, mlp=128, heads=4, out=64)
    tower = nnx.eval_shape(lambda: Siglip(shape, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(tower)
    state = on(mesh, lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state))
    images = on(mesh, lambda: jnp.zeros((8, shape.size, shape.size, 3)))

    def step(state, images):
        def loss(state):
            return (nnx.merge(graph, state)(images, policy) ** 2).mean()

        return descend(loss, state)

    return lowered(mesh, step, state, images, donate=(0,))


def descend(loss: Callable[[Any], jax.Array], params: Any) -> Any:
    value, slopes = jax.value_and_grad(loss)(params)
    return jax.tree.map(lambda p, slope: p - layers.RATE * slope, params, slopes), value


def layers_step(form: str, mesh: Mesh, size: layers.Size | None = None) -> Any:
    """The step of the remat benchmark in one of its forms."""
    size = size or layers.Size(layers=4, width=128, length=128, batch=4)
    block = partial(layers.layer, size.heads)
    apply, block, stacked = {
        "remat": (layers.apply_list, remat(block), False),
        "checkpoint": (layers.apply_list, jax.checkpoint(block), False),
        "scan": (layers.apply_scan, jax.checkpoint(block), True),
        "none": (layers.apply_list, block, False),
    }[form]

    def draw():
        params = layers.parameters(size, key=jax.random.key(0))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params) if stacked else params

    def step(params, x):
        return descend(lambda p: jnp.mean((apply(block, p, x) - x) ** 2), params)

    x = on(mesh, lambda: jnp.zeros((size.batch, size.length, size.width)))
    return lowered(mesh, step, on(mesh, draw), x, donate=(0,))


def small(model: LMConfig, **changes: Any) -> LMConfig:
    """Two layers of each kind."""
    cross = 2 if model.cross_layers else 0
    return replace(model, self_layers=2 if cross else 4, cross_layers=cross, **changes)


def language_models() -> dict[str, LMConfig]:
    """One of each mixer."""
    found = {f"yoco-{mixer}": small(yoco_tiny(mixer)) for mixer in MIXERS}
    found["transformer"] = small(transformer_tiny())
    latent = replace(transformer_debug("mla").mla, latent=32, rope=16, nope=32, value=32)
    found["transformer-mla"] = small(replace(transformer_tiny(), mixer="mla", mla=latent))
    return found


def cpu_instances() -> Iterator[Instance]:
    """Those that are compiled for this machine, the hard ones first."""
    for form in ("checkpoint", "remat", "none", "scan"):
        yield Instance(f"layers-{form}-memory", partial(layers_step, form), MEMORY_FIRST)
        yield Instance(f"layers-{form}", partial(layers_step, form))
    for name, model in language_models().items():
        yield Instance(f"{name}-none-scan", partial(language_step, model))
        for policy in ("none", "full") if name in EVERY_FORM else ("full",):
            form = replace(model, remat=policy, unroll=True)
            make = partial(language_step, form)
            yield Instance(f"{name}-{policy}-list-memory", make, MEMORY_FIRST)
    served = replace(small(yoco_tiny()), unroll=True)
    for name, make in {"prefill": prompt, "decode": token, "needle": needles}.items():
        yield Instance(f"yoco-{name}", partial(make, served))
    yield Instance("transformer-prefill", partial(prompt, language_models()["transformer"]))
    for part in ("sft", "update"):
        for policy in ("none", "full"):
            yield Instance(f"vla-{part}-{policy}", partial(action_step, part, remat=policy))
    for algorithm in ("ppo", "grpo"):
        yield Instance(f"mlp-iteration-{algorithm}", partial(toy_iteration, algorithm))
    for policy in ("none", "full"):
        yield Instance(f"siglip-{policy}", partial(vision_step, policy))


def described_instances() -> Iterator[Instance]:
    """Those that are compiled for a TPU or a GPU that is not here: they take longer to compile."""
    size = layers.Size(layers=4, width=256, length=256, batch=4)
    for form in ("checkpoint", "scan", "none"):
        yield Instance(f"layers-{form}", partial(layers_step, form, size=size))
