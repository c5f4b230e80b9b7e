"""What an agent needs of a retriever."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from loomax.agents.search.retrieval.document import Hit

# Queries are written by models; longer ones are mistakes, and cost time in proportion.
MOST_CHARACTERS = 4096
MOST_HITS = 1000


@runtime_checkable
class Retriever(Protocol):
    """Finds documents; safe to call from several threads."""

    @property
    def version(self) -> str:
        """Names the corpus and the way it is indexed: equal versions give equal answers."""
        ...

    def search(self, query: str, k: int) -> Sequence[Hit]:
        """At most `k` documents, best first; none where no word of the query is known."""
        ...


def check_search(query: str, k: int) -> None:
    """Raises ValueError unless the query is short enough and `k` is in range."""
    if len(query) > MOST_CHARACTERS:
        raise ValueError(
            f"the query has {len(query)} characters; at most {MOST_CHARACTERS} are searched for"
        )
    if not 1 <= k <= MOST_HITS:
        raise ValueError(f"k is {k}; ask for 1 to {MOST_HITS} documents")
