"""How much of a TPU program's time its loops repeat, by the compiler's own counts of cycles."""

import re

from loomax.runtime.hlo_text import read_program

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def loop_factor(text: str) -> float:
    """Cycles with each loop as often as it runs, over cycles with each body once; 1 or more.

    The TPU compiler's estimate of seconds has each body once. A loop whose trips depend on data
    counts once here too, and so do programs without counts of cycles, such as those for the CPU.

    Args:
        text: of a compiled program (`compiled.as_text()`).

    Raises:
        ValueError: this is not the text of a compiled program.
    """
    once = every = 0
    for line, times in read_program(text).runs(within=("fusion",)):
        found = _CYCLES.search(line.text)
        if found is not None:
            once += int(found[1])
            every += times * int(found[1])
    return every / once if once else 1.0
