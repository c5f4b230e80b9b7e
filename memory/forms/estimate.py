"""How many rows a second a form could compute at most: an estimate, nothing ran."""

from loomax.memory.forms.search import Try
from loomax.runtime.flops import PEAK_FLOPS
from loomax.runtime.target import Target


def rows_per_s(found: Try, rows: int, target: Target) -> float | None:
    """Rows of the batch a second and device if products ran at the device's peak.

    Memory traffic and communication come on top, so this compares forms of one program: a form
    that recomputes less is faster by as much.

    Args:
        rows: of the whole batch, where the form was compiled for the batch as given.

    Returns:
        None where the device's peak is not known, or the form did not compile.
    """
    peaks = [PEAK_FLOPS[part] for part in target.name.split(":") if part in PEAK_FLOPS]
    if not peaks or found.verdict.error or not found.flops:
        return None
    return (found.batch or rows) / target.mesh.size * peaks[0] / found.flops


def estimate_lines(
    best: Try, largest: Try | None, given: Try | None, rows: int, target: Target
) -> list[str]:
    """The estimate for what a search found, each against the form as given."""
    base = None if given is None else rows_per_s(given, rows, target)
    lines = []
    for found in dict.fromkeys(found for found in (given, best, largest) if found is not None):
        rate = rows_per_s(found, rows, target)
        if rate is None:
            continue
        gain = f", {rate / base:.3f} of it as given" if base and found is not given else ""
        lines.append(f"estimate, products at peak: {found}: {rate:.3g} rows/s a device{gain}")
    return lines
