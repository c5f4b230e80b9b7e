"""The graph: entities, their relations, members and sizes, all drawn from a seed.

Shape letters: N entities, R relations, M members (at most).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from loomax.agents.search.world.config import MEMBERS, MOST_ENTITIES, RELATIONS, WorldConfig
from loomax.agents.search.world.names import name_of


@dataclass(frozen=True)
class World:
    """Entities are numbered from 0.

    Args:
        names: the number of each entity's name.
        relations: what each entity's relations lead to; never the entity itself.
        members: of each entity, -1 where it has fewer; no two have the same size.
        order: the entities, shuffled; questions that are held out start from the first ones.
        held_out: how many these are.
    """

    config: WorldConfig
    names: Int[np.ndarray, " N"]
    relations: Int[np.ndarray, "N R"]
    members: Int[np.ndarray, "N M"]
    sizes: Int[np.ndarray, " N"]
    order: Int[np.ndarray, " N"]
    held_out: int

    def name(self, entity: int) -> str:
        """The name of an entity."""
        return name_of(int(self.names[entity]))

    def members_of(self, entity: int) -> tuple[int, ...]:
        """The members of an entity, in the order of its document."""
        return tuple(int(member) for member in self.members[entity] if member >= 0)

    def starts(self, split: str) -> Int[np.ndarray, " S"]:
        """Entities that questions of a split start from.

        Raises:
            ValueError: there is no such split.
        """
        if split not in ("train", "held_out"):
            raise ValueError(f"split is {split!r}; it must be 'train' or 'held_out'")
        return self.order[: self.held_out] if split == "held_out" else self.order[self.held_out :]


def make_world(config: WorldConfig) -> World:
    """The world of a seed."""
    rng = np.random.default_rng([config.seed, 0])
    count = config.entities
    ids = np.arange(count)
    steps = rng.integers(1, count, size=(count, len(RELATIONS)))
    # Every size occurs, so that members of any size can be found.
    sizes = rng.permutation(ids % config.sizes)
    order = rng.permutation(count)
    return World(
        config=config,
        names=rng.permutation(MOST_ENTITIES)[:count],
        relations=(ids[:, None] + steps) % count,
        members=draw_members(sizes, config.sizes, rng),
        sizes=sizes,
        order=order,
        held_out=max(1, round(config.held_out * count)),
    )


def draw_members(
    sizes: Int[np.ndarray, " N"], kinds: int, rng: np.random.Generator
) -> Int[np.ndarray, "N M"]:
    """Two or three members for each entity, of sizes that differ from its own and one another."""
    count, most = len(sizes), max(MEMBERS)
    # Distances from the entity's own size, around the circle of sizes.
    away = 1 + rng.random((count, kinds - 1)).argsort(axis=1)[:, :most]
    wanted = (sizes[:, None] + away) % kinds
    by_size = np.argsort(sizes, kind="stable")
    many = np.bincount(sizes, minlength=kinds)
    first = np.concatenate([[0], np.cumsum(many)[:-1]])
    members = by_size[first[wanted] + rng.integers(0, many[wanted])]
    fewer = rng.integers(min(MEMBERS), most + 1, size=count)
    return np.where(np.arange(most) < fewer[:, None], members, -1)
