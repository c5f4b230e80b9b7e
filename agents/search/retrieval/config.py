"""Settings of an index. Imports no JAX."""

from dataclasses import dataclass
from typing import Literal

Engine = Literal["bm25s", "tantivy"]


@dataclass(frozen=True)
class IndexConfig:
    """How documents are indexed.

    Args:
        engine: "bm25s" is held in memory and is fastest; "tantivy" stays on disk.
        title_boost: how often the words of the title count.
        k1, b: the constants of BM25; tantivy has its own (1.2, 0.75).

    Raises:
        ValueError: a value is out of range.
    """

    engine: Engine = "bm25s"
    title_boost: int = 2
    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self):
        if self.engine not in ("bm25s", "tantivy"):
            raise ValueError(f"engine is {self.engine!r}; take 'bm25s' or 'tantivy'")
        if not 0 <= self.title_boost <= 10:
            raise ValueError(f"title_boost is {self.title_boost}; it must be 0 to 10")
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise ValueError(f"k1 {self.k1} must be at least 0, and b {self.b} 0 to 1")
        if self.engine == "tantivy" and (self.k1, self.b) != (1.2, 0.75):
            raise ValueError(
                f"tantivy has k1 1.2 and b 0.75, not {self.k1} and {self.b}: leave them, or take "
                "engine 'bm25s'"
            )
