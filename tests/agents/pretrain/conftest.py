"""A folder of small documents, and a finished run of the debug configuration on it."""

from dataclasses import replace

import pytest

from loomax.agents.pretrain.config import DataConfig
from loomax.agents.pretrain.presets import CONFIGS
from loomax.agents.pretrain.train import train

# As tokens (begin and end included) 3, 9, 17, 5, 40, 12 ...: one fills a row of 17 exactly.
LENGTHS = (1, 7, 15, 3, 38, 10, 22, 2, 15, 29, 61, 8)


def text_of(number: int) -> str:
    """A document that no other is a part of."""
    return "".join(chr(97 + (number + 5 * i) % 26) for i in range(LENGTHS[number]))


@pytest.fixture(scope="package")
def texts():
    return [text_of(number) for number in range(len(LENGTHS))]


@pytest.fixture(scope="package")
def folder(texts, tmp_path_factory):
    """One text file a document."""
    root = tmp_path_factory.mktemp("documents")
    for number, text in enumerate(texts):
        (root / f"{number:02d}.txt").write_text(text)
    return root


@pytest.fixture(scope="package")
def data(folder):
    return DataConfig(path=str(folder), held_out=0.0, tokenizer="bytes")


@pytest.fixture(scope="package")
def debug(folder):
    """The debug configuration on the folder."""
    config = CONFIGS["lm-debug"]
    return replace(config, data=replace(config.data, path=str(folder), files="*", held_out=0.3))


@pytest.fixture(scope="package")
def finished(debug, tmp_path_factory):
    """The folder of an uninterrupted run, and its result."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    return run_dir, train(debug, run_dir)
