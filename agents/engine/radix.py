"""The prefix cache: a tree in which a path spells tokens and a node is a page of them.

The idea is that of radix attention (Zheng et al., arXiv 2312.07104), with pages as letters: only
whole pages are shared, so no node is ever split. A node may hold a snapshot of the recurrent
states behind its last token. What only the tree holds can be evicted, least recently used first
and leaves before what they hang on.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence

from loomax.agents.engine.pages import Pool

Block = tuple[int, ...]


class Node:
    """A page of tokens behind those of its ancestors."""

    __slots__ = ("block", "children", "page", "parent", "snapshot", "used")

    def __init__(self, parent: "Node | None", block: Block, page: int):
        self.parent, self.block, self.page = parent, block, page
        self.children: dict[Block, Node] = {}
        self.snapshot: int | None = None
        self.used = 0


class Radix:
    """The tree; it holds every page and snapshot in it once.

    Args:
        size: tokens of a page.
    """

    def __init__(self, size: int, pages: Pool, snapshots: Pool):
        self._size, self._pages, self._snapshots = size, pages, snapshots
        self._root = Node(None, (), -1)
        self._clock = 0
        self.held = 0

    def match(self, tokens: Sequence[int]) -> list[Node]:
        """The longest path that `tokens` begin with."""
        self._clock += 1
        node, path = self._root, []
        for block in self._blocks(tokens):
            found = node.children.get(block)
            if found is None:
                break
            found.used = self._clock
            path.append(found)
            node = found
        return path

    def insert(
        self, tokens: Sequence[int], pages: Sequence[int], snapshots: Mapping[int, int]
    ) -> list[int]:
        """Adds the whole pages of `tokens`.

        Args:
            snapshots: of the states behind so many tokens.

        Returns:
            The pages to hold from now on: where the tree had one with the same tokens, that one
            has replaced the caller's, which has been released.
        """
        self._clock += 1
        node, kept = self._root, list(pages)
        for index, block in enumerate(self._blocks(tokens)):
            found = node.children.get(block)
            if found is None:
                found = Node(node, block, self._pages.share(pages[index]))
                node.children[block] = found
                self.held += 1
            elif found.page != pages[index]:
                self._pages.release(pages[index])
                kept[index] = self._pages.share(found.page)
            found.used = self._clock
            snapshot = snapshots.get((index + 1) * self._size)
            if found.snapshot is None and snapshot is not None:
                found.snapshot = self._snapshots.share(snapshot)
            node = found
        return kept

    @property
    def evictable(self) -> int:
        """Pages that nobody but the tree holds."""
        return sum(self._pages.owners(node.page) == 1 for node in self._nodes())

    def evict(self, pages: int) -> int:
        """Gives up to so many pages back; returns how many were."""
        leaves = [(node.used, id(node), node) for node in self._nodes() if self._gone(node)]
        heapq.heapify(leaves)
        freed = 0
        while leaves and freed < pages:
            node = heapq.heappop(leaves)[2]
            self._drop(node)
            freed += 1
            parent = node.parent
            if parent is not None and parent is not self._root and self._gone(parent):
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        return freed

    def evict_snapshot(self) -> bool:
        """Gives a snapshot back that nobody else holds; whether there was one."""
        loose = [
            node
            for node in self._nodes()
            if node.snapshot is not None and self._snapshots.owners(node.snapshot) == 1
        ]
        if not loose:
            return False
        oldest = min(loose, key=lambda node: node.used)
        self._snapshots.release(oldest.snapshot)
        oldest.snapshot = None
        return True

    def clear(self) -> None:
        """Gives everything back that nobody else holds."""
        self.evict(self.held)

    def _gone(self, node: Node) -> bool:
        return not node.children and self._pages.owners(node.page) == 1

    def _drop(self, node: Node) -> None:
        self._pages.release(node.page)
        if node.snapshot is not None:
            self._snapshots.release(node.snapshot)
        if node.parent is not None:
            del node.parent.children[node.block]
        self.held -= 1

    def _blocks(self, tokens: Sequence[int]) -> Iterator[Block]:
        size = self._size
        for start in range(0, len(tokens) - size + 1, size):
            yield tuple(tokens[start : start + size])

    def _nodes(self) -> Iterator[Node]:
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()
