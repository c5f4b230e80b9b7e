"""Reference counts and the prefix cache, against brute force."""

import numpy as np
import pytest

from loomax.agents.engine.pages import Pool
from loomax.agents.engine.radix import Radix


def test_a_pool_counts_owners():
    pool = Pool(2)
    one, two = pool.take(), pool.take()
    assert {one, two} == {0, 1} and pool.take() is None
    assert pool.share(one) == one and pool.owners(one) == 2
    assert not pool.release(one) and pool.release(one)
    assert (pool.free, pool.used, pool.take()) == (1, 1, one)


@pytest.mark.parametrize("wrong", [Pool.share, Pool.release])
def test_what_is_free_has_no_owner(wrong):
    with pytest.raises(ValueError, match="number 1 is free"):
        wrong(Pool(2), 1)


def filled(radix, pages, tokens, snapshots=None):
    """Inserts tokens in new pages and gives those up; what the tree has for them."""
    held = [pages.take() for _ in range(len(tokens) // 2)]
    held = radix.insert(tokens, held, snapshots or {})
    for page in held:
        pages.release(page)
    return held


def test_a_tree_finds_the_longest_path():
    """Random sequences over two letters: whole pages of the longest common beginning."""
    rng, pages = np.random.default_rng(0), Pool(2000)
    radix = Radix(2, pages, Pool(0))
    known = [rng.integers(0, 2, int(n)).tolist() for n in rng.integers(1, 14, 40)]
    for tokens in known:
        filled(radix, pages, tokens)
    assert radix.held == pages.used == radix.evictable
    for _ in range(200):
        tokens = rng.integers(0, 2, int(rng.integers(1, 16))).tolist()
        path = radix.match(tokens)
        best = max(
            next((i for i in range(0, len(t) + 1, 2) if t[: i + 2] != tokens[: i + 2]
                  or i + 2 > min(len(t), len(tokens))), 0)
            for t in known
        )  # fmt: skip
        assert 2 * len(path) == best
        assert [token for node in path for token in node.block] == tokens[:best]


def test_equal_pages_are_kept_once():
    pages = Pool(8)
    radix = Radix(2, pages, Pool(0))
    first = radix.insert([1, 2, 3, 4], [pages.take(), pages.take()], {})
    second = radix.insert([1, 2, 5, 6], [pages.take(), pages.take()], {})
    assert second[0] == first[0] and second[1] != first[1]
    assert pages.used == 3 and pages.owners(first[0]) == 3


def test_the_least_recently_used_goes_first_and_what_is_held_stays():
    pages = Pool(8)
    radix = Radix(1, pages, Pool(0))
    held = radix.insert([1], [pages.take()], {})
    for tokens in ([2], [3, 4]):
        radix.insert(tokens, fresh := [pages.take() for _ in tokens], {})
        for page in fresh:
            pages.release(page)
    radix.match([2])
    assert radix.evictable == 3
    # 4 is older than 2, and 3 cannot go before it.
    assert radix.evict(1) == 1 and len(radix.match([3, 4])) == 1
    assert radix.evict(9) == 2
    assert (len(radix.match([1])), pages.used, radix.held) == (1, 1, 1)
    pages.release(held[0])
    radix.clear()
    assert (pages.used, radix.held) == (0, 0)


def test_snapshots_are_shared_and_evicted_alone():
    pages, snapshots = Pool(8), Pool(2)
    radix = Radix(2, pages, snapshots)
    taken = {2: snapshots.take(), 4: snapshots.take()}
    filled(radix, pages, [1, 2, 3, 4], taken)
    snapshots.release(taken[2])
    radix.match([1, 2])
    assert [node.snapshot for node in radix.match([1, 2, 3, 4])] == [taken[2], taken[4]]
    # The other one is held by somebody else.
    assert radix.evict_snapshot() and not radix.evict_snapshot()
    assert [node.snapshot for node in radix.match([1, 2, 3, 4])] == [None, taken[4]]
    radix.clear()
    assert (pages.used, snapshots.used) == (0, 1)
