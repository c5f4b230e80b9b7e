"""The three modes against each other, what is inactive, and the network that is extracted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.elastic.config import SupernetConfig
from loomax.models.elastic.deploy.network import calibrate
from loomax.models.elastic.extract import build, extract
from loomax.models.elastic.sizes import freeze
from loomax.models.elastic.supernet import apply_supernet
from loomax.nas.space.arch import Arch, StageArch
from loomax.nas.space.count import count
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.encode import encode

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# Odd in every way: one side of the lanes each, both kernels, an unequal width in the middle.
MIDDLE = Arch(
    16,
    (
        StageArch(4, 1, kernel=(1,), expand=(1,)),
        StageArch(8, 2, kernel=(5, 3), expand=(3, 2)),
        StageArch(12, 1, expand=(2,), v_scale=(1,)),
    ),
)


def near(ours, expected):
    """Within 1e-6 of an array's largest value, or of 1: float32 sums round in proportion."""
    ours, expected = jax.tree.leaves(ours), jax.tree.leaves(expected)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, np.abs(b).max()))


@pytest.fixture(scope="module")
def middle(net):
    return net.elastic_switch(net.parameters, encode(net.space, MIDDLE), net.images)


def test_the_switch_equals_the_static_network(net, middle):
    static = net.static(net.parameters, freeze(encode(net.space, MIDDLE)), net.images)
    assert np.abs(static[0][1]).max() > 0.1
    near(middle, static)


def test_the_switch_equals_the_masks(net):
    archs = [MIDDLE, smallest(net.space), largest(net.space)]
    archs += [random_arch(net.space, generator(7, i)) for i in range(3)]
    for arch in archs:
        given = net.parameters, encode(net.space, arch), net.images
        near(net.elastic_switch(*given), net.masked(*given))


def test_one_program_serves_every_subnet(net):
    for i in range(20):
        sizes = encode(net.space, random_arch(net.space, generator(1, i)))
        assert np.isfinite(net.elastic_switch(net.parameters, sizes, net.images)[0][0])
    assert net.elastic_switch._cache_size() == 1


def test_inactive_parameters_get_exactly_nothing(net, middle):
    def used(parameters):
        _, parts = extract(net.config, parameters, encode(net.space, MIDDLE))
        return sum(leaf.sum() for leaf in jax.tree.leaves(parts))

    active = jax.jit(jax.grad(used), compiler_options=QUICK)(net.parameters)
    gradients = middle[1]
    masked = net.masked(net.parameters, encode(net.space, MIDDLE), net.images)[1]
    for on, ours, reference in zip(*map(jax.tree.leaves, (active, gradients, masked)), strict=True):
        assert not np.asarray(ours)[np.asarray(on) == 0].any()
        assert not np.asarray(reference)[np.asarray(on) == 0].any()
    touched = sum(int(np.count_nonzero(leaf)) for leaf in jax.tree.leaves(gradients))
    assert touched > 0.8 * sum(float(leaf.sum()) for leaf in jax.tree.leaves(active))


@pytest.fixture(scope="module")
def network(net):
    return build(*extract(net.config, net.parameters, encode(net.space, MIDDLE)))


def test_the_extracted_network_gives_the_supernets_output(net, network, middle):
    calibrate(network, [net.images])
    graph, state = nnx.split(network)
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x), compiler_options=QUICK)
    near(run(state, net.images), middle[0][1])


def test_the_extracted_network_is_as_large_as_counted(net, network):
    held = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    assert held == count(net.space, MIDDLE).params


def test_wrong_sizes_are_refused(net):
    sizes = encode(net.space, MIDDLE)
    wide = sizes.stages[2]._replace(width=np.int32(20))
    large = sizes._replace(stages=(*sizes.stages[:2], wide))
    with pytest.raises(ValueError, match="stage 2: width is 20: give 1 to 16"):
        extract(net.config, net.parameters, large)
    with pytest.raises(ValueError, match="sizes have 2 stages: give 3"):
        apply_supernet(
            net.config, net.parameters, sizes._replace(stages=sizes.stages[:2]), net.images
        )
    with pytest.raises(ValueError, match="images of side 20: give at most 16"):
        apply_supernet(net.config, net.parameters, sizes, jnp.zeros((1, 20, 20, 3)))
    with pytest.raises(ValueError, match="5 lanes: give 1 to 4"):
        SupernetConfig(net.config.stages, net.config.lanes[:1] * 5, 5)
    with pytest.raises(ValueError, match="resolution is 16: give at most 12"):
        SupernetConfig(net.config.stages, net.config.lanes[::-1], 5)
