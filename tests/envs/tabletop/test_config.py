"""What the configuration of the table accepts, and the sentences that it can give."""

import subprocess
import sys

import pytest

from loomax.envs.tabletop.config import CUBE_COLOURS, DISC_COLOURS, TabletopConfig


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cubes": 0}, "cubes is 0"),
        ({"cubes": 5}, "cubes is 5; it must lie in 1..4"),
        ({"horizon": 0}, "horizon is 0"),
        ({"image_size": 0}, "image_size 0"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        TabletopConfig(**change)


def test_instructions():
    assert TabletopConfig(task="reach").instructions[0] == "touch the red cube"
    assert TabletopConfig(task="pick").instructions == tuple(
        f"pick up the {colour} cube" for colour in CUBE_COLOURS
    )
    placing = TabletopConfig(task="pick-place").instructions
    assert len(set(placing)) == len(CUBE_COLOURS) * len(DISC_COLOURS)
    assert "put the red cube on the purple disc" in placing


def outside(code: str) -> str:
    """What a fresh interpreter prints, without the type checks of the tests."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("reward='x'", "reward 'x' is unknown; use sparse or shaped"),
        ("lift_height=float('nan')", "lift_height is nan; it must be above 0 and finite"),
        ("pool=0", "pool is 0; it must be at least 1 start pose"),
        ("task='stack'", "task 'stack' is unknown; use reach, pick or pick-place"),
        ("cameras=('scene', 'ceiling')", "cameras ['ceiling'] are unknown; use scene and wrist"),
    ],
)
def test_unknown_names(change, words):
    """The type checks of the tests would refuse these before the configuration does."""
    code = f"""
from loomax.envs.tabletop.config import TabletopConfig
try:
    TabletopConfig({change})
except ValueError as error:
    print(error)
"""
    assert words in outside(code)


def test_configurations_do_not_import_jax():
    code = """
import sys, loomax.envs.tabletop.config, loomax.envs.point_mass_config
print("jax" in sys.modules)
"""
    assert outside(code).strip() == "False"
