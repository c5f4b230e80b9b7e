"""One document for each entity: its relations, members and size, in the words of the vocabulary."""

from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.world.config import RELATIONS
from loomax.agents.search.world.world import World

# A name stands in the text of others, at most four times in one: its own document comes first.
INDEX = IndexConfig(title_boost=4)


def document(world: World, entity: int) -> Document:
    """What there is to read about an entity."""
    parts = [
        f"{relation} {world.name(int(target))}"
        for relation, target in zip(RELATIONS, world.relations[entity], strict=True)
    ]
    parts.append("members " + " ".join(map(world.name, world.members_of(entity))))
    parts.append(f"size {world.sizes[entity]} .")
    return Document(str(entity), world.name(entity), " ".join(parts))


def documents(world: World) -> list[Document]:
    """The whole corpus."""
    return [document(world, entity) for entity in range(world.config.entities)]
