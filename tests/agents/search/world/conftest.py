"""A small world, and the one that is used."""

import pytest

from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world


@pytest.fixture(scope="session")
def world():
    return make_world(WorldConfig(entities=2000))


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(WorldConfig().sizes)
