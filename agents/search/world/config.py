"""Settings of the multi-hop world. Imports no JAX."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["chain", "largest"]
# Entities have names of two words, of so many each.
NAME_WORDS = 160
MOST_ENTITIES = NAME_WORDS**2
RELATIONS = ("capital", "founder", "rival")
MEMBERS = (2, 3)


@dataclass(frozen=True)
class WorldConfig:
    """A world: everything in it follows from these.

    Args:
        sizes: an entity's size is one of 0 .. sizes - 1; each is a single token.
        held_out: share of the entities that no training question starts from.

    Raises:
        ValueError: a value is out of range.
    """

    seed: int = 0
    entities: int = 20_000
    sizes: int = 40
    held_out: float = 0.1

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        if not 5 <= self.sizes <= 1000:
            raise ValueError(f"sizes is {self.sizes}; it must be 5 to 1000")
        # Members have sizes of their own, so every size must occur.
        if not 4 * self.sizes <= self.entities <= MOST_ENTITIES:
            raise ValueError(
                f"entities is {self.entities}; it must be {4 * self.sizes} (4 for each of the "
                f"{self.sizes} sizes) to {MOST_ENTITIES} (the names that there are)"
            )
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must be between 0 and 1")


@dataclass(frozen=True)
class Task:
    """A kind of question and how often it is asked.

    Args:
        kind: "chain" follows relations from an entity; "largest" follows them from the largest
            of its members, which has to be found out first.
        relations: how many are followed.
        members: of the entity; 0 for a chain.
        share: relative frequency.

    Raises:
        ValueError: there is no such kind of question.
    """

    kind: Kind
    relations: int
    members: int = 0
    share: float = 1.0

    def __post_init__(self):
        if self.kind not in ("chain", "largest"):
            raise ValueError(f"kind is {self.kind!r}; it must be 'chain' or 'largest'")
        if not 1 <= self.relations <= 4:
            raise ValueError(f"relations is {self.relations}; it must be 1 to 4")
        allowed = (0,) if self.kind == "chain" else MEMBERS
        if self.members not in allowed:
            raise ValueError(f"members is {self.members}; for {self.kind!r} take one of {allowed}")
        if self.share <= 0:
            raise ValueError(f"share is {self.share}; it must be above 0")

    @property
    def name(self) -> str:
        """Such as chain-3 or largest-2."""
        return f"{self.kind}-{self.members or self.relations}"


CHAINS = tuple(Task("chain", hops) for hops in (2, 3, 4))
# Two relations after the largest member: the decision is a search, and the answer comes after it.
LARGEST = tuple(Task("largest", 2, members) for members in MEMBERS)
MIXTURE = CHAINS + LARGEST
