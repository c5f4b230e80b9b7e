"""Eight host devices, a compilation cache on disk, and shapes checked at run time."""

import jaxtyping
import pytest

# Annotations such as Float[Array, "batch dim"] become checks, in tests only.
jaxtyping.install_import_hook("loomax", "beartype.beartype")

from loomax.runtime.compile import setup_cpu  # noqa: E402  (after the hook)

DEVICES = 8

setup_cpu(DEVICES)


@pytest.fixture
def key():
    """A typed PRNG key that is the same in every test."""
    import jax

    return jax.random.key(0)
