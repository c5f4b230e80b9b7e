"""How many tokens each expert gets: a real router with random weights on skewed tokens.

Nothing is trained: tokens are noisy copies of a few topics whose shares follow Zipf's law and drift
from microbatch to microbatch, as text does, and no loss balances the experts.
"""

import numpy as np

from loomax.memory.lifetimes.pipeline_config import PipelineConfig

TOPICS, FEATURES, NOISE = 64, 64, 0.5


def expert_rows(config: PipelineConfig, iteration: int, seed: int = 0) -> np.ndarray:
    """Rows of the experts on this device, [microbatch, layer, expert].

    Args:
        iteration: of the training; tokens differ between iterations, routers and topics do not.
        seed: of routers, topics and tokens.
    """
    block = config.block
    fixed = np.random.default_rng((seed, 0))
    topics = fixed.standard_normal((TOPICS, FEATURES))
    routers = fixed.standard_normal((config.layers, FEATURES, block.experts)) / FEATURES**0.5
    shares = 1 / np.arange(1, TOPICS + 1)
    draw = np.random.default_rng((seed, 1, iteration))
    rows = np.zeros((config.microbatches, config.layers, block.local), int)
    for microbatch in range(config.microbatches):
        drift = shares * draw.gamma(2.0, 0.5, TOPICS)
        topic = draw.choice(TOPICS, block.batch * block.length, p=drift / drift.sum())
        tokens = topics[topic] + NOISE * draw.standard_normal((len(topic), FEATURES))
        for layer in range(config.layers):
            scores = tokens @ routers[layer]
            chosen = np.argpartition(-scores, block.chosen - 1, axis=-1)[:, : block.chosen]
            counts = np.bincount(chosen.ravel(), minlength=block.experts)
            rows[microbatch, layer] = counts[: block.local]
    return rows
