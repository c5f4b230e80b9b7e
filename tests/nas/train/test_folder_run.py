"""A whole, tiny run of `imagenet-folder` on images that the test writes."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from loomax.nas.train.config import DataConfig
from loomax.nas.train.presets import CONFIGS
from loomax.nas.train.train import train

DEBUG = CONFIGS["digits-debug"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve PNG files in three class folders, of different sizes."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(12):
        folder = root / f"class{number % 3}"
        folder.mkdir(exist_ok=True)
        shape = (18 + number, 24, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{number}.png")
    return root


def test_a_folder_of_pictures_is_trained_on(pictures, tmp_path):
    config = dataclasses.replace(
        CONFIGS["imagenet-folder"],
        space="shapes-debug",
        steps=2,
        data=DataConfig("folder", str(pictures), batch=4, validation=0.2, test=0.2, workers=1),
        sampler=dataclasses.replace(DEBUG.sampler, rule="sandwich", nets=2),
        distill=dataclasses.replace(DEBUG.distill, temperature=0.2),
        optimiser=DEBUG.optimiser,
        calibration=4,
        log_every=1,
        score_every=2,
        checkpoint_every=2,
    )
    result = train(config, tmp_path)
    kept = json.loads((tmp_path / "result.json").read_text())
    assert kept["test"] == result.test and kept["config"] == "imagenet-folder"
    assert result.steps == 2 and result.compilations == 1 and np.isfinite(result.loss)
    # A fifth of twelve images is two.
    assert set(result.test.values()) <= {0.0, 0.5, 1.0}
