"""The graph: what must hold in every world."""

import numpy as np
import pytest

from loomax.agents.search.world.config import MOST_ENTITIES, Task, WorldConfig
from loomax.agents.search.world.names import FIRST, LAST, name_of
from loomax.agents.search.world.world import make_world


@pytest.mark.parametrize(
    "config", [WorldConfig(), WorldConfig(seed=7, entities=160), WorldConfig(entities=20, sizes=5)]
)
def test_every_world_is_sound(config):
    world, ids = make_world(config), np.arange(config.entities)
    assert len({name_of(number) for number in world.names.tolist()}) == config.entities
    assert ((world.relations >= 0) & (world.relations < config.entities)).all()
    assert (world.relations != ids[:, None]).all()
    assert set(world.sizes.tolist()) == set(range(config.sizes))
    counts = set()
    for entity in ids[:500].tolist():
        members = world.members_of(entity)
        counts.add(len(members))
        sizes = [int(world.sizes[member]) for member in (*members, entity)]
        assert len(set(sizes)) == len(members) + 1
    assert counts == {2, 3}


def test_members_and_relations_are_spread_evenly():
    """Each entity is a member about as often as another: Poisson with mean 2.5."""
    world = make_world(WorldConfig())
    many = np.bincount(world.members[world.members >= 0], minlength=20_000)
    assert many.mean() == pytest.approx(2.5, abs=0.03)
    assert many.var() == pytest.approx(2.5, rel=0.05)
    many = np.bincount(world.relations[:, 0], minlength=20_000)
    assert many.var() == pytest.approx(1.0, rel=0.05)


def test_the_seed_decides():
    one, again, other = (make_world(WorldConfig(seed=seed)) for seed in (1, 1, 2))
    for part in ("names", "relations", "members", "sizes", "order"):
        np.testing.assert_array_equal(getattr(one, part), getattr(again, part))
        assert (getattr(one, part) != getattr(other, part)).any()


def test_the_split_is_a_partition(world):
    train, held = (set(world.starts(split).tolist()) for split in ("train", "held_out"))
    assert not train & held and train | held == set(range(2000)) and len(held) == 200
    with pytest.raises(ValueError, match="split is 'test'; it must be 'train' or 'held_out'"):
        world.starts("test")


def test_names_are_distinct():
    assert len(set(FIRST)) == len(set(LAST)) == 160
    assert len({name_of(number) for number in range(MOST_ENTITIES)}) == MOST_ENTITIES


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"sizes": 4}, "sizes is 4; it must be 5 to 1000"),
        ({"entities": 159}, r"entities is 159; it must be 160 \(4 for each of the 40 sizes\)"),
        ({"entities": 25_601}, "to 25600"),
        ({"held_out": 1.0}, "held_out is 1.0"),
    ],
)
def test_worlds_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("chain", 5), "relations is 5; it must be 1 to 4"),
        (("chain", 2, 2), r"members is 2; for 'chain' take one of \(0,\)"),
        (("largest", 2, 4), r"members is 4; for 'largest' take one of \(2, 3\)"),
        (("largest", 2, 2, 0.0), "share is 0.0"),
    ],
)
def test_tasks_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        Task(*given)
