"""The latency of a whole network from its blocks. Imports no JAX.

Whole networks are fused and cached otherwise than single blocks, so the sum over blocks is mapped
to scale x sum + constant, fitted to measured networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from loomax.nas.oracle.agreement import Agreement, agreement
from loomax.nas.oracle.reading import Oracle, chain_of
from loomax.nas.oracle.table import Table
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.space.arch import Arch
from loomax.nas.space.blocks import Block
from loomax.nas.space.space import Space


@dataclass(frozen=True)
class Predictor:
    """Predicts seconds: constant + the sum of the prices of a network's blocks.

    Args:
        prices: seconds of each block in a network: scale x what the table says.
        constant: seconds that every network takes.
        scale: fitted; 1 without measured networks.
    """

    space: Space
    prices: Mapping[Block, float]
    constant: float
    scale: float

    def __call__(self, arch: Arch) -> float:
        return self.constant + sum(self.prices[block] for block in chain_of(self.space, arch))


def predictor_of(space: Space, table: Table) -> Predictor:
    """The predictor of a table.

    Raises:
        ValueError: the table lacks blocks of the space.
    """
    lacking = [block for block in distinct_blocks(space) if block not in table.readings]
    if lacking:
        raise ValueError(
            f"the latency table lacks {len(lacking)} blocks of the space, such as {lacking[0]}:"
            " go on with the same `loomax nas table`"
        )
    seconds = {block: reading.seconds for block, reading in table.readings.items()}
    plain = Predictor(space, seconds, 0.0, 1.0)
    fitted = [network for network in table.networks if not network.held_out]
    if not fitted:
        return plain
    sums = np.asarray([plain(network.arch) for network in fitted])
    scale, constant = fit(sums, np.asarray([network.seconds for network in fitted]))
    prices = {block: scale * value for block, value in seconds.items()}
    return Predictor(space, prices, constant, scale)


def fit(sums: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """(scale, constant), both 0 or more, with the least squares of relative errors.

    Args:
        sums, measured: seconds [networks], above 0.
    """
    rows = np.stack([sums / measured, 1 / measured], axis=1)
    units = np.abs(rows).max(axis=0)
    (scale, constant), _ = nnls(rows / units, np.ones(len(measured)))
    if scale == 0:  # latencies that say nothing about blocks
        return float(measured.mean() / sums.mean()), 0.0
    return float(scale / units[0]), float(constant / units[1])


def judge(space: Space, table: Table) -> Agreement | None:
    """Predictions against the networks that were held out; None with fewer than two."""
    held = [network for network in table.networks if network.held_out]
    if len(held) < 2:
        return None
    predict = predictor_of(space, table)
    predicted = [predict(network.arch) for network in held]
    return agreement(predicted, [network.seconds for network in held])


def bound_predictor(space: Space, oracle: Oracle) -> Predictor:
    """The predictor of a roofline, which needs no table."""
    blocks = distinct_blocks(space)
    found = oracle.measure([(block,) for block in blocks])
    prices = {block: reading.seconds for block, reading in zip(blocks, found, strict=True)}
    return Predictor(space, prices, 0.0, 1.0)
