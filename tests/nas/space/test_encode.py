"""Sizes and genes: round trips over whole spaces, one shape for all, refusals."""

import jax
import numpy as np
import pytest

from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.elasticvit import PUBLISHED, elasticvit_space
from loomax.nas.space.encode import decode, encode
from loomax.nas.space.genes import from_genes, gene_choices, to_genes


def some(archs: list) -> list:
    return archs[:: max(1, len(archs) // 40)]


def test_sizes_come_back_and_share_their_shapes(space, every_arch):
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), encode(space, largest(space)))
    for arch in some(every_arch(space)):
        sizes = encode(space, arch)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), sizes) == shapes
        assert decode(space, sizes) == arch


def test_genes_come_back(space, every_arch):
    archs = some(every_arch(space))
    rows = np.stack([to_genes(space, arch) for arch in archs])
    assert rows.shape[1] == len(gene_choices(space))
    assert len(np.unique(rows, axis=0)) == len(archs)
    assert [from_genes(space, row) for row in rows] == archs


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_come_back(name):
    space = elasticvit_space()
    assert decode(space, encode(space, PUBLISHED[name])) == PUBLISHED[name]
    assert from_genes(space, to_genes(space, PUBLISHED[name])) == PUBLISHED[name]


def test_sizes_are_those_of_the_network():
    sizes = encode(elasticvit_space(), PUBLISHED["L2"])
    c1, t4 = sizes.stages[1], sizes.stages[6]
    assert int(sizes.resolution) == 256
    assert c1.kernel.tolist() == [3, 3, 3, 0, 0]
    assert c1.hidden.tolist() == [6 * 16, 6 * 24, 6 * 24, 0, 0]  # the first expands the stem's 16
    assert t4.heads.tolist() == [19, 19, 0, 0, 0, 0]
    assert t4.values.tolist() == [3 * 304, 3 * 304, 0, 0, 0, 0]
    assert t4.hidden.tolist() == [5 * 304, 5 * 304, 0, 0, 0, 0]


def test_a_compiled_function_takes_every_architecture(spaces, every_arch):
    total = jax.jit(lambda sizes: sum(stage.hidden.sum() for stage in sizes.stages))
    for arch in some(every_arch(spaces["layerwise"]))[:20]:
        total(encode(spaces["layerwise"], arch))
    assert total._cache_size() == 1


def test_sizes_off_the_space_are_refused(spaces):
    space = spaces["hybrid"]
    sizes = encode(space, smallest(space))
    first = sizes.stages[1]
    for field, value, message in [
        ("hidden", first.hidden + 1, "stage 'T1': hidden is .*; allowed: what encode gives"),
        ("values", first.values * 0, "stage 'T1': v_scale is 0; allowed: .1, 2."),
        ("width", np.int32(9), "stage 'T1': width is 9"),
        ("depth", np.int32(0), "stage 'T1': depth is 0"),
    ]:
        wrong = first._replace(**{field: value})
        with pytest.raises(ValueError, match=message):
            decode(space, sizes._replace(stages=(sizes.stages[0], wrong, sizes.stages[2])))
    with pytest.raises(ValueError, match="sizes have 1 stages; allowed: 3"):
        decode(space, sizes._replace(stages=sizes.stages[:1]))


def test_genes_off_the_space_are_refused(spaces):
    space = spaces["layerwise"]
    genes = to_genes(space, largest(space))
    with pytest.raises(ValueError, match="3 genes; allowed: 15, those of the space"):
        from_genes(space, genes[:3])
    genes[0] = 2
    with pytest.raises(ValueError, match="gene 0 is 2; allowed: -1 to 1"):
        from_genes(space, genes)
