"""Costs between and beyond what was measured. Imports no JAX.

With b items on n devices, all coefficients being 0 or more:

    seconds  = c0 + c1 b/n + c2 b + c3 (1 - 1/n) + c4 log2(n)
    resident = r0 + r1 / n + r2 b/n
    working  = w0 + w1 b/n

c0 is overhead, c1 work that devices share, c2 work that they do not (a simulator on the host), c3
a ring collective's traffic and c4 its steps. The fit is least squares on relative errors. What was
measured is returned as it was measured.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from loomax.agents.workflow.plan.problem import Option
from loomax.agents.workflow.profile import StageProfile


@dataclass(frozen=True)
class Fit:
    """A stage's cost for any batch and device count.

    Args:
        seconds, resident, working: the coefficients above.
        measured: (batch, devices) to the cost there.
        error: largest relative error of the seconds at a measured point.
        left_out_error: the same when each point is predicted from the others; infinite when
            there are too few.
    """

    seconds: tuple[float, ...]
    resident: tuple[float, ...]
    working: tuple[float, ...]
    measured: dict[tuple[int, int], Option]
    error: float
    left_out_error: float

    @property
    def fewest(self) -> int:
        """The smallest device count that was measured."""
        return min(devices for _, devices in self.measured)

    def option(self, batch: int, devices: int) -> Option:
        """The cost of a batch.

        Args:
            devices: 0 for a stage in the background that has none: the seconds as beside the
                fewest that were measured, and none of their memory.
        """
        if devices == 0:
            beside = self.option(batch, self.fewest)
            return replace(beside, devices=0, resident_bytes=0, working_bytes=0)
        if (batch, devices) in self.measured:
            return self.measured[batch, devices]
        at = np.array([[batch, devices]], float)
        return Option(
            devices,
            float((_times(at) @ self.seconds)[0]),
            math.ceil((_residents(at) @ self.resident)[0]),
            math.ceil((_workings(at) @ self.working)[0]),
        )

    def inside(self, batch: int, devices: int) -> bool:
        """Whether a point lies within what was measured, rather than beyond it."""
        devices = devices or self.fewest
        at = np.array(list(self.measured))
        low, high = at.min(0), at.max(0)
        return bool(np.all(low <= (batch, devices)) and np.all((batch, devices) <= high))


def fit(profile: StageProfile, background: bool = False) -> Fit:
    """Fits a stage's measurements.

    Few measurements leave terms out: with one batch per device the time is taken as proportional
    to it, and with one device count nothing is said about communication.

    Args:
        background: it works outside of the devices, which share none of its work.
    """
    found = profile.measurements
    at = np.array([[item.batch, item.devices] for item in found], float)
    seconds = np.array([item.seconds for item in found])
    resident = np.array([item.resident_bytes for item in found], float)
    working = np.array([item.working_bytes for item in found], float)
    times = _solve(_times(at), seconds, _known(at, background))
    left_out = math.inf
    if len(found) > 2:
        errors = []
        for index in range(len(found)):
            rest = np.arange(len(found)) != index
            known = _known(at[rest], background)
            others = _solve(_times(at[rest]), seconds[rest], known)
            errors.append(abs(_times(at[[index]]) @ others / seconds[index] - 1)[0])
        left_out = float(max(errors))
    share_known = len(set(at[:, 1])) > 1
    items_known = len(set(at[:, 0] / at[:, 1])) > 1
    return Fit(
        tuple(times),
        tuple(_solve(_residents(at), resident, [True, share_known, items_known])),
        tuple(_solve(_workings(at), working, [not items_known or len(found) > 1, True])),
        {
            (item.batch, item.devices): Option(
                item.devices, item.seconds, item.resident_bytes, item.working_bytes
            )
            for item in found
        },
        float(np.max(np.abs(_times(at) @ times / seconds - 1))),
        left_out,
    )


def _known(at: np.ndarray, background: bool) -> list[bool]:
    """Which terms of the time the measurements can tell apart."""
    if background:
        return [len(set(at[:, 0])) > 1, False, True, False, False]
    devices = len(set(at[:, 1])) > 1
    share = len(set(at[:, 0] / at[:, 1])) > 1
    return [share, True, devices and len(set(at[:, 0])) > 1, devices, devices]


def _times(at: np.ndarray) -> np.ndarray:
    batch, devices = at.T
    one = np.ones_like(batch)
    return np.stack([one, batch / devices, batch, 1 - 1 / devices, np.log2(devices)], 1)


def _residents(at: np.ndarray) -> np.ndarray:
    batch, devices = at.T
    return np.stack([np.ones_like(batch), 1 / devices, batch / devices], 1)


def _workings(at: np.ndarray) -> np.ndarray:
    batch, devices = at.T
    return np.stack([np.ones_like(batch), batch / devices], 1)


def _solve(terms: np.ndarray, target: np.ndarray, used: list[bool]) -> np.ndarray:
    """Non-negative coefficients; relative errors count, so targets of 0 pin their row."""
    weight = 1 / np.where(target > 0, target, max(1.0, target.max(initial=0.0)))
    columns = np.flatnonzero(used)
    scaled = terms[:, columns] * weight[:, None]
    # Columns of one length, since bytes and seconds differ by many orders of magnitude.
    length = np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)
    found, _ = nnls(scaled / length, target * weight)
    result = np.zeros(terms.shape[1])
    result[columns] = found / length
    return result
