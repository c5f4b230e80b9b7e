"""Eight host devices, a compilation cache on disk, and shapes and keys checked at run time.

XLA:CPU compiles quickly instead of well, here and in the processes that tests start: programs of
tests run a few times on small arrays. XLA_FLAGS="" in the environment tests what users run.
"""

import os
import sys
import types

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

# Annotations such as Float[Array, "batch dim"] become checks, in tests only. An int may stand
# for a float, as type checkers have it. The hook finds its checker by import name.
_checker = types.ModuleType("loomax_type_checker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker
jaxtyping.install_import_hook("loomax", "loomax_type_checker.check")

import jax  # noqa: E402  (loomax comes after the hook)

from loomax.runtime.compile import physics_options, setup_cpu  # noqa: E402

# Before the first operation: XLA ends the process for a flag that it does not know.
FLAGS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    **physics_options("cpu"),
}
os.environ.setdefault(
    "XLA_FLAGS", " ".join(f"--{name}={str(value).lower()}" for name, value in FLAGS.items())
)
setup_cpu(devices=8)
# A key that is used twice is an error; jax.random.clone says where it is meant.
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def key() -> jax.Array:
    """A typed PRNG key that is the same in every test."""
    return jax.random.key(0)
