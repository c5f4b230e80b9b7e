"""Simulators for tests. Workers import this module, so it imports no JAX."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.simulator import ArraySpec

BATCH, WIDTH = 12, 3
INPUTS = {"action": ArraySpec((WIDTH,))}
OUTPUTS = {"obs": ArraySpec((WIDTH,)), "steps": ArraySpec((), "int32")}
RESETS = {"seed": ArraySpec((), "uint32")}


class Walk:
    """Whole numbers that depend on all actions so far, and on noise from a generator."""

    def __init__(self, index):
        self.index = index
        self.rng = np.random.default_rng(index)
        self.x = np.zeros(WIDTH, np.float32)
        self.steps = 0

    def step(self, arrays):
        noise = self.rng.integers(0, 5, arrays["action"].shape)
        self.x = np.mod(2 * self.x + arrays["action"] + noise, 7).astype(np.float32)
        self.steps += 1
        return {"obs": self.x, "steps": np.full(len(noise), self.steps)}


class Episodes(Walk):
    """The same, with a start."""

    def reset(self, arrays):
        seed = arrays["seed"]
        self.rng = np.random.default_rng([self.index, *seed.tolist()])
        self.x = np.repeat(seed[:, None] % 7, WIDTH, 1).astype(np.float32)
        self.steps = 0
        return {"obs": self.x, "steps": np.zeros(len(seed), np.int32)}


class Kept(Walk):
    """The same, with snapshots."""

    def snapshot(self):
        return self.rng.bit_generator.state, self.x, self.steps

    def restore(self, state):
        self.rng.bit_generator.state, self.x, self.steps = state
        # Tells that it was not made by replaying everything.
        Path(os.environ["WALK_FOLDER"], f"restored-{self.index}").write_text(str(self.steps))


def broken(index):
    raise OSError(f"no display for {index}")


def vanishing(index):
    os._exit(3)


def hit(folder, times):
    """Whether this is one of the first `times` calls, over all processes."""
    for i in range(times):
        try:
            (Path(folder) / f"fault-{i}").touch(exist_ok=False)
            return True
        except FileExistsError:
            continue
    return False


def fail(kind):
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hangs":
        time.sleep(1000)
    raise ArithmeticError("no solution")


class _Faulty:
    def __init__(self, index, base, kind, at, folder, times):
        os.environ["WALK_FOLDER"] = str(folder)
        self.index, self.made = index, base(index)
        self.kind, self.at, self.folder, self.times = kind, at, folder, times

    def __getattr__(self, name):
        return getattr(self.__dict__["made"], name)

    def step(self, arrays):
        if self.index == 1 and self.made.steps == self.at and hit(self.folder, self.times):
            fail(self.kind)
        return self.made.step(arrays)


def _faulty(index, **options):
    return _Faulty(index, **options)


def faulty(base, kind, at, folder, times=1):
    """A factory whose simulator 1 fails at a step, the first `times` times that it comes there."""
    return partial(_faulty, base=base, kind=kind, at=at, folder=folder, times=times)


def double(index):
    return Doubles()


class Doubles:
    """Keeps no state."""

    def step(self, arrays):
        return {"obs": arrays["action"] * 2, "steps": np.full(len(arrays["action"]), os.getpid())}


class Sleeper(Walk):
    """Never comes back, and says so in a file."""

    def step(self, arrays):
        Path("asleep").touch()
        time.sleep(1000)


class Wrong:
    """Breaks what was declared."""

    def __init__(self, found, index):
        self.found = found

    def step(self, arrays):
        return self.found


def config(factory, **options):
    settings = dict(batch=BATCH, workers=2, simulators=4, start_s=60.0, step_s=60.0)
    return PoolConfig(factory, INPUTS, OUTPUTS, **{**settings, **options})


def draw_actions():
    """Of ten steps."""
    return np.random.default_rng(0).integers(0, 7, (10, BATCH, WIDTH)).astype(np.float32)


def without_workers(factory, actions, count=4, seed=None):
    """Outputs of all steps; simulator j of `count` has the rows j, j + count, ..."""
    found = {"obs": np.zeros_like(actions), "steps": np.zeros(actions.shape[:2], np.int32)}
    for j in range(count):
        simulator = factory(j)
        if seed is not None:
            simulator.reset({"seed": seed[j::count]})
        for t, action in enumerate(actions):
            for name, x in simulator.step({"action": action[j::count]}).items():
                found[name][t, j::count] = x
    return found
