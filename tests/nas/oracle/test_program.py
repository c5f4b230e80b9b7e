"""Programs of blocks are the network that is deployed."""

from functools import partial

import jax
import pytest

from loomax.models.elastic.extract import extract
from loomax.models.elastic.supernet import init_supernet
from loomax.nas.oracle.program import network_spec, program_of, specs_of
from loomax.nas.oracle.reading import chain_of
from loomax.nas.space.digits import digits_space
from loomax.nas.space.draw import generator, random_arch
from loomax.nas.space.encode import encode
from loomax.nas.space.supernet import supernet_config


def test_a_network_of_blocks_is_the_extracted_one():
    space = digits_space()
    config = supernet_config(space)
    shapes = jax.eval_shape(lambda: init_supernet(config, key=jax.random.key(0)))
    found = []

    def extracted(parameters, sizes):
        spec, arrays = extract(config, parameters, sizes)
        found.append(spec)
        return arrays

    archs = [random_arch(space, generator(seed)) for seed in range(8)]
    for arch in archs:
        jax.eval_shape(partial(extracted, sizes=encode(space, arch)), shapes)
    assert [network_spec(space, arch) for arch in archs] == found


def test_every_block_reads_what_the_one_before_wrote(spaces):
    space = spaces["hybrid"]
    for seed in range(4):
        chain = chain_of(space, random_arch(space, generator(seed)))
        programs = [program_of((block,), 3, "bfloat16") for block in chain]
        for program, after in zip(programs, programs[1:], strict=False):
            out = jax.eval_shape(program.forward, program.state, program.images)
            assert out.shape == after.images.shape and out.dtype == "bfloat16"
        whole = program_of(chain, 3, "bfloat16")
        assert jax.eval_shape(whole.forward, whole.state, whole.images).shape == (3, 5)


def test_blocks_that_are_counted_only_are_refused(spaces):
    chain = chain_of(spaces["vit"], random_arch(spaces["vit"], generator(0)))
    for block in chain:
        with pytest.raises(ValueError, match="no program for .*: take a roofline"):
            specs_of(block)
