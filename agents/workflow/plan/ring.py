"""A cycle on disjoint devices: parts of the batch take turns. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Station:
    """A stage of a cycle on devices of its own.

    Args:
        devices: none where the stage works outside of them.
        seconds: of one call on one part of the batch.
        transfer_s: to hand that part to the next station.
    """

    stage: str
    devices: int
    seconds: float
    transfer_s: float = 0.0


@dataclass(frozen=True)
class Ring:
    """`turns` equal parts of a batch go round the stations `rounds` times.

    While one part is simulated another one is acted on: RLinf runs embodied cycles so, with two
    turns (arXiv 2509.15965).
    """

    stations: tuple[Station, ...]
    turns: int
    rounds: int

    @property
    def devices(self) -> int:
        return sum(station.devices for station in self.stations)

    @property
    def seconds(self) -> float:
        """Until the last part has gone its last round; exact for constant times.

        A chain of tasks that wait for each other either follows one part, `w` times round, or
        stays at a station while parts pass; it takes (w + 1) rounds and the rest of the passes at
        the slowest station. That is linear in w, so the longest one lies at an end.
        """
        steps = [step for s in self.stations for step in (s.seconds, s.transfer_s)]
        around, slowest = sum(steps), max(steps)
        follow = self.rounds * around + (self.turns - 1) * slowest
        stay = around + (self.rounds * self.turns - 1) * slowest
        return max(follow, stay)
