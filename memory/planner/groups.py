"""Block heuristics of STWeaver (arXiv 2507.16274, released as STAlloc): one phase, one block.

Buffers that are born in one phase and die in another form a block, planned by itself; the blocks
and what is left are planned as if each were a buffer. Small and badly filled blocks dissolve; two
blocks that overlap in part become one (a staircase) where that fills memory better. Thresholds are
those of the released code.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.planner.twin.rounds import Found

Solve = Callable[[Sequence[int], Sequence[int], Sequence[int]], Found]

LEAST_FILL = 0.7
# A block is small with fewer members and fewer bytes than this share of the largest block's.
LEAST_MEMBERS = 5
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Block:
    """Buffers, by index, at offsets within their block."""

    members: tuple[int, ...]
    offsets: tuple[int, ...]
    size: int
    birth: int
    death: int
    fill: float


def pack_groups(
    records: Sequence[Lifetime], sizes: Sequence[int], inner: Solve, outer: Solve
) -> Found:
    """Packs each group by `inner`, then blocks and loose buffers by `outer`."""

    def block(members: Sequence[int]) -> Block:
        return _block(members, records, sizes, inner)

    whole = fuse(dissolve([block(group) for group in by_phase(records)]), block)
    inside = {member for part in whole for member in part.members}
    loose = [block([index]) for index in range(len(records)) if index not in inside]
    parts = [*whole, *loose]
    found = outer(
        [part.birth for part in parts], [part.death for part in parts], [p.size for p in parts]
    )
    offsets = [0] * len(records)
    for part, base in zip(parts, found.offsets, strict=True):
        for member, offset in zip(part.members, part.offsets, strict=True):
            offsets[member] = base + offset
    peak = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    # What is proved of blocks does not hold for their members.
    return Found(offsets, peak, 0, "groups", found.nodes)


def by_phase(records: Sequence[Lifetime]) -> list[list[int]]:
    """Indices of the records of each phase; those without one are in no group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        if record.phase:
            groups[record.phase].append(index)
    return list(groups.values())


def dissolve(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that are large enough and filled well enough."""
    largest = max((block.size for block in blocks), default=0)

    def small(block: Block) -> bool:
        return len(block.members) < LEAST_MEMBERS and block.size < LEAST_SHARE * largest

    return [block for block in blocks if block.fill >= LEAST_FILL and not small(block)]


def fuse(blocks: Sequence[Block], block: Callable[[Sequence[int]], Block]) -> list[Block]:
    """Fuses each block with the next that outlives it, where fill(both)^2 > fill(a) fill(b)."""
    done: list[Block] = []
    for part in sorted(blocks, key=lambda part: (part.birth, part.death)):
        for at, other in enumerate(done):
            if not other.birth < part.birth < other.death < part.death:
                continue
            both = block((*other.members, *part.members))
            if both.fill**2 > other.fill * part.fill:
                done[at] = both
                break
        else:
            done.append(part)
    return done


def _block(
    members: Sequence[int], records: Sequence[Lifetime], sizes: Sequence[int], solve: Solve
) -> Block:
    lower = [records[index].birth for index in members]
    upper = [records[index].death for index in members]
    inside = [sizes[index] for index in members]
    birth, death = min(lower), max(upper)
    if len(members) == 1:
        return Block(tuple(members), (0,), inside[0], birth, death, 1.0)
    found = solve(lower, upper, inside)
    held = sum(s * (d - b) for s, b, d in zip(inside, lower, upper, strict=True))
    fill = held / (found.peak * (death - birth))
    return Block(tuple(members), tuple(found.offsets), found.peak, birth, death, fill)
