"""A network gives the same logits from each kind of file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.elastic.deploy.export import (
    export_network,
    forward,
    load_orbax,
    load_stablehlo,
    reload_errors,
)
from loomax.models.elastic.deploy.files import load_network
from loomax.models.elastic.deploy.network import Network
from loomax.models.initialise import CountedDraws
from loomax.nas.oracle.program import network_spec
from loomax.nas.space.digits import digits_debug_space
from loomax.nas.space.draw import smallest


@pytest.fixture
def network():
    """With random parameters and statistics everywhere."""
    space = digits_debug_space(5)
    made = Network(network_spec(space, smallest(space)), rngs=CountedDraws())
    graph, state = nnx.split(made)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(-0.3, 0.5, leaf.shape) ** 2, jnp.float32), state
    )
    return nnx.merge(graph, state)


def test_all_files_hold_the_network(network, tmp_path):
    paths = export_network(tmp_path, network, channels=1)
    side = network.spec.resolution
    images = jax.random.normal(jax.random.key(0), (2, side, side, 1))
    errors = reload_errors(paths, network, images)
    assert errors["safetensors"] == errors["orbax"] == 0
    assert errors["stablehlo"] < 1e-5
    expected = np.asarray(forward(network)(images))
    twice = load_stablehlo(paths["stablehlo"])(jnp.concatenate([images, images]))
    np.testing.assert_allclose(twice, np.concatenate([expected, expected]), rtol=0, atol=1e-5)
    assert np.ptp(expected) > 1e-3
    wanted = jax.tree.leaves(nnx.state(network))
    for read in (load_network(paths["safetensors"]), load_orbax(paths["orbax"])):
        assert read.spec == network.spec
        for ours, other in zip(wanted, jax.tree.leaves(nnx.state(read)), strict=True):
            np.testing.assert_array_equal(ours, other)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="none cannot be read as a program: .*No such file"):
        load_stablehlo(tmp_path / "none")
    with pytest.raises(ValueError, match="none holds no network: give what export_network wrote"):
        load_orbax(tmp_path / "none")
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="text cannot be read as a program"):
        load_stablehlo(tmp_path / "text")
