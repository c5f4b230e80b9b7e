"""What a training step of a subnet costs: ours against its own static model and other ways.

Process CPU time, in turns. A step is the loss, its gradient and AdamW on all parameters that the
program holds: the supernet's in ours, the subnet's in `static`.
"""

import importlib.util
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks._rows import Row, compare, device_name, take_turns
from benchmarks._supernet_programs import Supernet, Timed
from benchmarks._supernet_space import BATCH, CLASSES, SIDE, cost_space
from loomax.nas.space.digits import digits_space
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.encode import encode
from loomax.nas.space.supernet import median, supernet_config
from loomax.nas.train.choice import Choice
from loomax.nas.train.learner import Batch, Learner, Stepper
from loomax.nas.train.lineup import line_up
from loomax.nas.train.presets import CONFIGS
from loomax.runtime.aot import compile_without_cache

BENCH = "supernet"
MODES = {"ours": "elastic_switch", "masked": "masked", "switch": "switch"}
SUBNETS = 200


def rows(quick: bool) -> list[Row]:
    """Step times, temporary memory and compilations."""
    compile_without_cache()
    return cost_rows(3 if quick else 11) + [compilation_row()]


def cost_rows(n: int) -> list[Row]:
    """One program a mode for all sizes, and one a size of the extracted networks."""
    space = cost_space()
    nets = {"small": smallest(space), "median": median(space), "max": largest(space)}
    supernet = Supernet(space)
    images = jax.random.normal(jax.random.key(1), (BATCH, SIDE, SIDE, 3))
    labels = jnp.arange(BATCH) % CLASSES
    sizes = {size: encode(space, arch) for size, arch in nets.items()}
    programs, cases, recompiled = {}, {}, {}
    for name, mode in MODES.items():
        programs[name] = Timed(*supernet.step(mode), images, labels, sizes["max"])
        for size in nets:
            run = partial(programs[name].run, images, labels, sizes[size])
            cases[f"{size} {name}"] = run
    for size, arch in nets.items():
        timed = Timed(*supernet.alone(arch), images, labels)
        cases[f"{size} static"] = timed
        recompiled[size] = timed.compile_s
    baselines = ["static", "masked", "switch", "recompile"]
    if importlib.util.find_spec("torch") is None:
        print("no torch: the rows against torch-eager are left out (pip install torch)", flush=True)
    else:
        from benchmarks._supernet_torch import ElasticModel

        model = ElasticModel(supernet.config, supernet.parameters)
        for size in nets:
            cases[f"{size} torch-eager"] = model.timed(sizes[size], images, labels)
        baselines.append("torch-eager")
    taken = take_turns(cases, n)
    found: list[Row] = []
    for size in nets:
        samples = {size: taken[f"{size} ours"]}
        samples |= {name: taken[f"{size} {name}"] for name in baselines if name != "recompile"}
        # A net that was not met before: its compilation, then its step.
        samples["recompile"] = [recompiled[size] + samples["static"][0]]
        made = compare(BENCH, "step_s", "s", samples, size, baselines, "lower")
        found += [row if row.baseline else replace(row, case=f"{size}-{row.case}") for row in made]
    memory = {"max": programs["ours"], "masked": programs["masked"], "switch": programs["switch"]}
    held = {name: [float(program.temp_bytes)] for name, program in memory.items()}
    made = compare(BENCH, "temp_bytes", "bytes", held, "max", ["masked", "switch"], "lower")
    return found + [row if row.baseline else replace(row, case=f"max-{row.case}") for row in made]


def compilation_row() -> Row:
    """Programs of the trainer's own step after 200 different random nets of the digits space."""
    config, space = CONFIGS["digits"], digits_space()
    learner = Learner(config, supernet_config(space))
    stepper, state = Stepper(learner, 1), learner.draw(key=jax.random.key(0))
    batch = Batch(jnp.zeros((4, 8, 8, 1), jnp.uint8), jnp.zeros(4, jnp.int32))
    nets: list = []
    while len(nets) < SUBNETS:
        drawn = random_arch(space, generator(0, len(nets)))
        nets += [drawn] if drawn not in nets else [random_arch(space, generator(1, len(nets)))]
    for start in range(0, SUBNETS, 4):
        choice = Choice(tuple(nets[start : start + 4]), 4)
        state, _, _ = stepper(state, batch, line_up(space, choice, 1))
    jax.block_until_ready(state)
    made = float(stepper.compilations)
    device, version = device_name(), jax.__version__
    return Row(
        BENCH,
        f"{SUBNETS}-subnets",
        "compilations",
        made,
        "programs",
        None,
        None,
        SUBNETS,
        device,
        version,
    )
