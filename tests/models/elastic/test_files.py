"""A fixed network in a file, and what is refused."""

import jax
import numpy as np
import pytest
from flax import nnx

from loomax.models.elastic.deploy.files import load_network, save_network, spec_from, spec_json
from loomax.models.elastic.extract import build, extract
from loomax.nas.space.draw import smallest
from loomax.nas.space.encode import encode


def test_a_network_is_written_and_read(net, tmp_path):
    network = build(*extract(net.config, net.parameters, encode(net.space, smallest(net.space))))
    save_network(tmp_path / "made" / "net.safetensors", network)
    again = load_network(tmp_path / "made" / "net.safetensors")
    assert again.spec == network.spec == spec_from(spec_json(network.spec))
    pairs = zip(*(jax.tree.leaves(nnx.state(n)) for n in (network, again)), strict=True)
    for ours, read in pairs:
        np.testing.assert_array_equal(ours, read)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["net.safetensors"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="net.safetensors cannot be read as a network"):
        load_network(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="net.safetensors cannot be read as a network"):
        load_network(path)
    with pytest.raises(ValueError, match="not the spec of a network"):
        spec_from('{"resolution": 8, "blocks": [{"kind": "Other"}]}')
