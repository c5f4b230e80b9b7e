"""Whole subnets against NumPy in float64 (`reference`), in the form that training runs."""

from functools import partial

import jax
import numpy as np

from loomax.models.elastic.sizes import freeze
from loomax.models.elastic.supernet import apply_supernet
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.encode import encode
from tests.models.elastic import reference
from tests.models.elastic.conftest import QUICK
from tests.models.elastic.test_supernet import MIDDLE


def test_subnets_are_the_formulas(net):
    archs = [MIDDLE, smallest(net.space), largest(net.space)]
    archs += [random_arch(net.space, generator(11, i)) for i in range(2)]
    for arch in archs:
        sizes = encode(net.space, arch)
        _, found = net.elastic_switch(net.parameters, sizes, net.images)[0]
        want = reference.logits(net.config, net.parameters, freeze(sizes), net.images)
        assert want.std() > 0.02
        np.testing.assert_allclose(found, want, atol=2e-5 * np.abs(want).max())


def test_images_of_another_side(net):
    """Positions are differences from the table's middle, and odd sides have wider borders."""
    sizes = encode(net.space, MIDDLE)
    images = net.images[:, :12, :12]
    run = jax.jit(partial(apply_supernet, net.config, mode="masked"), compiler_options=QUICK)
    found = run(net.parameters, sizes, images)
    want = reference.logits(net.config, net.parameters, freeze(sizes), images)
    np.testing.assert_allclose(found, want, atol=2e-5 * np.abs(want).max())
