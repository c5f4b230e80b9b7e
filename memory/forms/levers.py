"""What a backend's compiler lets one choose about memory without changing the program."""

from dataclasses import dataclass

from loomax.runtime.target import Target

MIB = 2**20


@dataclass(frozen=True)
class Lever:
    """A way to compile a program.

    Args:
        name: for people.
        options: compiler options, as pairs.
    """

    name: str = "default"
    options: tuple[tuple[str, str], ...] = ()


DEFAULT = Lever()
# Shares of the budget to declare. What comes out is not monotone: asked for less than it can
# reach the compiler gives up, and a looser limit can end lower.
DECLARED = (1.0, 1.15, 1.35)
# XLA:CPU's own choice is to run as much as possible side by side.
CPU_MEMORY = Lever(
    "memory scheduler",
    (("xla_cpu_scheduler_type", "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"),),
)
# By default a product with a weight that is cut over many chips becomes a ring of permutations, a
# piece of the weight at a time; here each weight is gathered whole first, as over few chips.
WHOLE_GATHERS = Lever(
    "whole gathers", (("xla_jf_spmd_threshold_for_windowed_einsum_mib", "1000000"),)
)


def declared(budget: int) -> Lever:
    """The TPU compiler is told that a chip has `budget` bytes, and recomputes until that fits."""
    size = max(1, budget // MIB)
    return Lever(f"declared {size} MiB", (("xla_tpu_max_hbm_size_mib", str(size)),))


def levers(target: Target, budget: int) -> tuple[Lever, ...]:
    """Everything to try besides the default."""
    if target.platform == "cpu":
        return (CPU_MEMORY,)
    if target.platform == "tpu":
        return tuple(declared(int(budget * part)) for part in DECLARED)
    return ()
