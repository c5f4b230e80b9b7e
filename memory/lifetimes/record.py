"""One buffer's lifetime. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lifetime:
    """A buffer that holds `size` bytes in [birth, death).

    Args:
        id: name, unique within a trace.
        size: bytes.
        birth: time at which it is allocated; times are any whole numbers that grow.
        death: time at which it is free again: another may take its place at that very time.
        alignment: its offset is a multiple of this.
        kind: what it is for, such as "parameter" or "temporary".
        phase: where it is born and dies, such as "forward 0 -> backward 0"; buffers with the same
            phase can be planned as a block.
        alias: buffers of one alias group are the same memory, one after the other.
        gaps: times [from, to) within its life, in order, at which it holds nothing; others may
            use its bytes then, and it comes back to the same offset.
    """

    id: str
    size: int
    birth: int
    death: int
    alignment: int = 1
    kind: str = ""
    phase: str = ""
    alias: str = ""
    # Of pairs of int: checked by `Trace`, not by a run-time type checker, which draws an item.
    gaps: tuple = ()

    @property
    def padded(self) -> int:
        """Bytes up to the next multiple of the alignment."""
        return -(-self.size // self.alignment) * self.alignment

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The times [from, to) at which it holds something."""
        if not self.gaps:
            return [(self.birth, self.death)]
        starts = [self.birth, *(end for _, end in self.gaps)]
        ends = [*(start for start, _ in self.gaps), self.death]
        return [span for span in zip(starts, ends, strict=True) if span[0] < span[1]]

    def meets(self, other: "Lifetime") -> bool:
        """Whether both live at some time."""
        return self.birth < other.death and other.birth < self.death
