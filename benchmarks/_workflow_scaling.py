"""The main training step on 16, 64 and 256 TPU chips, as the compiler sees it.

`pi0-tabletop`'s update, with as many environments a chip on each slice. Groups of 16 chips share
the parameters; gradients cross between groups. Weights are gathered whole on all slices: by default
the compiler does so where there are replicas, and makes rings of permutations on 16 chips. Rows:
workflow/weak-scaling-{16,64,256}/{peak_bytes,flops,collective_bytes} of one chip, against the slice
of 16.
"""

from dataclasses import replace

import jax

from benchmarks._rows import Row
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.presets import pi0_tabletop
from loomax.agents.slices import HEADER, slice_report
from loomax.memory.forms.levers import WHOLE_GATHERS
from loomax.runtime.axes import MeshConfig
from loomax.runtime.collectives import total_bytes
from loomax.runtime.compile import cache_folder

SLICES = {16: "v5e:4x4", 64: "v5e:8x8", 256: "v5e:16x16"}
GROUP = 16


def rows(quick: bool) -> list[Row]:
    """All slices; the smallest two where it has to be quick."""
    found: list[Row] = []
    print(HEADER, flush=True)
    first: dict[str, float] = {}
    for chips, topology in list(SLICES.items())[: 2 if quick else 3]:
        report = slice_report(sized(chips), topology, cache_folder("slices"), WHOLE_GATHERS)
        print(report.line(), flush=True)
        if report.error or report.traffic is None:
            raise ValueError(f"{topology}: {report.error or 'the program cannot be printed'}")
        figures = {
            "peak_bytes": (float(report.peak_bytes), "bytes"),
            "flops": (report.flops, "FLOP"),
            "collective_bytes": (float(total_bytes(report.traffic)), "bytes"),
        }
        for metric, (value, unit) in figures.items():
            ratio = first.setdefault(metric, value) / value
            base = None if chips == GROUP else f"weak-scaling-{GROUP}"
            found.append(
                Row(
                    "workflow",
                    f"weak-scaling-{chips}",
                    metric,
                    value,
                    unit,
                    base,
                    ratio if base else None,
                    1,
                    topology,
                    jax.__version__,
                    "tpu-compiler",
                )
            )
    return found


def sized(chips: int) -> TrainConfig:
    """The configuration with as many environments a chip as it has on 16."""
    config = pi0_tabletop()
    rollout = replace(config.rl.rollout, envs=config.rl.rollout.envs * chips // GROUP)
    mesh = MeshConfig(replica=-1, fsdp=GROUP)
    # Of other stages; they only have to divide.
    batch, shown = config.sft.batch * chips // GROUP, config.sft.episodes * chips // GROUP
    return replace(
        config,
        mesh=mesh,
        sft=replace(config.sft, batch=batch, episodes=shown),
        rl=replace(config.rl, rollout=rollout),
        eval=replace(config.eval, episodes=config.eval.episodes * chips // GROUP),
    )
