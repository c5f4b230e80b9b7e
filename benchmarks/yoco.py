"""What does caching keys and values once save, and what does it cost in quality?  loomax bench yoco

    cpu      prefill and decoding of tiny models on this machine, in turns with the Transformer
    quality  loss of tiny models trained on the standard library's sources, and on recall of pairs,
             three seeds
    v5p v6e v5e
             YOCO-3B on one TPU chip by the word of the TPU compiler (needs loomax[tpu-aot]):
             bytes of a decode step, its rate, and the seconds of a prefill at 32K to 1M tokens

`--only cpu v5p` runs these parts alone. Rows from the TPU compiler are labelled; nothing ran for
them. `--quick` leaves out all but the longest and the shortest prompt on a v5p, and trains for a
few steps only. In full the parts take about 1, 25 and three times 12 minutes on two cores.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import _yoco_cpu as cpu
from benchmarks import _yoco_quality as quality
from benchmarks._rows import Better, Row, compare, finish
from loomax.runtime.aot import HBM_BYTES, compile_without_cache

BENCH = "yoco"
# Measured on an H100-80GB (YOCO, arXiv 2405.05254, section 4.5).
PAPER_MEMORY = {"32k": 1.95, "128k": 3.01, "512k": 6.39, "1m": 9.38}
PAPER_PREFILL = {"32k": 2.87, "128k": 8.36, "512k": 30.3, "1m": 71.82}
DRAFTS = 4
FIRST = "v5p"


def estimate(
    case: str, metric: str, unit: str, ours: float, theirs: float, chip: str, better: Better
) -> list[Row]:
    """Ours against the Transformer, both from the TPU compiler."""
    samples = {case: [ours], "transformer": [theirs]}
    device, source = f"1 x {chip}", "tpu-compiler"
    found = compare(
        BENCH, metric, unit, samples, case, ["transformer"], better, device=device, source=source
    )
    return [found[0], replace(found[1], case=f"{case}-transformer")]


def case_of(length: str, generation: str) -> str:
    """Name of a case; those of other chips than the first carry the chip's."""
    return f"3b-{length}" if generation == FIRST else f"3b-{length}-{generation}"


def say(text: str) -> None:
    print(text, flush=True)


def decode_rows(chip, lengths: dict[str, int]) -> list[Row]:
    """Bytes and rates of decode steps, with what fits."""
    from benchmarks import _yoco_tpu as tpu

    found: list[Row] = []
    memory = HBM_BYTES[chip.generation]
    for name, length in lengths.items():
        ours, theirs = (tpu.decode_step(chip, c, length) for c in tpu.models().values())
        words = ", ".join(
            f"{who} {tpu.gib(v.bytes)} {'fits' if v.fits else 'DOES NOT FIT'}"
            for who, v in (("yoco", ours), ("transformer", theirs))
        )
        say(
            f"{chip.generation} {name}: {words} ({tpu.gib(memory)} a chip); "
            f"{theirs.bytes / ours.bytes:.2f} times, paper's H100 {PAPER_MEMORY[name]}"
        )
        case = case_of(name, chip.generation)
        found += estimate(
            case, "total_bytes", "bytes", ours.bytes, theirs.bytes, chip.generation, "lower"
        )
        if ours.fits and theirs.fits:
            rates = (1 / ours.seconds, 1 / theirs.seconds)
            found += estimate(
                case, "decode_tokens_per_s", "tokens/s", *rates, chip.generation, "higher"
            )
    return found


def faster_decode_rows(chip, name: str, length: int) -> list[Row]:
    """What int8 keys and values give, and checking several drafts in one pass over them."""
    from benchmarks import _yoco_tpu as tpu

    yoco, transformer = tpu.models().values()
    theirs = tpu.decode_step(chip, transformer, length)
    small = replace(yoco, kv_bits=8)
    found = {
        "int8": 1 / tpu.decode_step(chip, small, length).seconds,
        f"verify{DRAFTS}": DRAFTS / tpu.decode_step(chip, yoco, length, DRAFTS).seconds,
        f"int8-verify{DRAFTS}": DRAFTS / tpu.decode_step(chip, small, length, DRAFTS).seconds,
    }
    rows: list[Row] = []
    for kind, rate in found.items():
        case = f"3b-{name}-{kind}"
        rows += estimate(
            case,
            "decode_tokens_per_s",
            "tokens/s",
            rate,
            1 / theirs.seconds,
            chip.generation,
            "higher",
        )[:1]
    return rows


def prefill_rows(chip) -> list[Row]:
    """Seconds of a prefill, from compiled layers."""
    from benchmarks import _yoco_tpu as tpu

    found: list[Row] = []
    for name, seconds in tpu.prefill_seconds(chip).items():
        ours, theirs = seconds["yoco"], seconds["transformer"]
        say(
            f"{chip.generation} {name}: prefill {ours:.2f} s against {theirs:.1f} s, "
            f"{theirs / ours:.1f} times, paper's H100 {PAPER_PREFILL[name]}"
        )
        case = case_of(name, chip.generation)
        found += estimate(case, "prefill_s", "s", ours, theirs, chip.generation, "lower")
    return found


def chip_rows(generation: str, quick: bool) -> list[Row]:
    """All that the TPU compiler is asked about one kind of chip."""
    if importlib.util.find_spec("libtpu") is None:
        say(f"no libtpu: the rows of {generation} are left out (pip install 'loomax[tpu-aot]')")
        return []
    from benchmarks import _yoco_tpu as tpu

    compile_without_cache()
    names = ("32k", "1m") if quick else tuple(tpu.LENGTHS)
    chip = tpu.Chip(generation)
    found = prefill_rows(chip) + decode_rows(chip, {name: tpu.LENGTHS[name] for name in names})
    if generation == FIRST and not quick:
        found += faster_decode_rows(chip, "512k", tpu.LENGTHS["512k"])
    return found


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "cpu": lambda quick: cpu.rows(quick, n=3 if quick else 5),
    "quality": quality.rows,
    "v5p": partial(chip_rows, "v5p"),
    "v6e": partial(chip_rows, "v6e"),
    "v5e": partial(chip_rows, "v5e"),
}
QUICK = ("cpu", "quality", FIRST)


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    names = only or (QUICK if quick else PARTS)
    finish([row for name in names for row in PARTS[name](quick)], json_path)
