"""loomax aot table: every configuration's training step on several TPU slices."""

from collections.abc import Sequence
from dataclasses import dataclass

from loomax.runtime.config import fail, parse_options, unknown
from loomax.runtime.topology import check_compiler, check_topology

DESCRIPTION = """Compiles the main training step of configurations for TPU slices that are not here,
and prints a table (Markdown): memory a chip, arithmetic, what crosses the links, whether it fits.
The step is the update on one minibatch in reinforcement learning, and one of the largest stage in
pretraining; each in the configuration's own form. Rows are kept by program in the cache folder.
Needs libtpu: pip install 'loomax[tpu-aot]'."""


@dataclass(frozen=True)
class Options:
    """What to compile.

    Args:
        configs: of `loomax train` and `loomax train lm`; default: all.
        topologies: slices; v5p:4x8x8 has the 512 cores of a v5p-512.
        grow: whether batches that do not divide over a slice grow to the least ones that do.
        whole_gathers: gather each sharded weight whole before its product, where the compiler
            would make a ring of permutations of it (over 16 chips or more, without replicas).
    """

    configs: tuple[str, ...] = ()
    topologies: tuple[str, ...] = ("v5e:4x4", "v5e:16x16", "v6e:16x16", "v5p:4x8x8")
    grow: bool = True
    whole_gathers: bool = False


def run(argv: Sequence[str], prog: str) -> None:
    options = parse_options(Options, argv, prog, DESCRIPTION)

    from loomax.agents.pretrain.presets import CONFIGS as PRETRAIN
    from loomax.agents.rl.presets import CONFIGS as RL
    from loomax.cli.aot import prepare

    known = {**RL, **PRETRAIN}
    for name in options.configs:
        if name not in known:
            fail(prog, unknown("config", name, known))
    for topology in options.topologies:
        check_topology(topology)
    check_compiler()
    prepare()

    from loomax.agents.growth import grown
    from loomax.agents.slices import HEADER, slice_report
    from loomax.memory.forms.levers import DEFAULT, WHOLE_GATHERS
    from loomax.runtime.aot import topology_mesh
    from loomax.runtime.compile import cache_folder

    lever = WHOLE_GATHERS if options.whole_gathers else DEFAULT
    print(HEADER, flush=True)
    for name in options.configs or known:
        for topology in options.topologies:
            devices = topology_mesh(topology).size
            config = grown(known[name], devices) if options.grow else known[name]
            found = slice_report(config, topology, cache_folder("slices"), lever)
            print(found.line(), flush=True)
