"""How actions are denoised and how random that is. Imports no JAX until a step is drawn."""

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxtyping import Array, Int, Key


@dataclass(frozen=True)
class SamplerConfig:
    """A denoising chain (formulas: `loomax.models.flow_vla.sampler`).

    Args:
        kind: "ode" (deterministic, for evaluation), "sde" (Flow-SDE), "noise" (Flow-Noise: the
            std is learned), "cps".
        steps: K.
        noise_level: a of "sde" and "cps".
        stochastic: one random step per sample, the others ode (piRL's default), or all steps.
            "noise" is always stochastic in all.
        first_step: the random step is drawn from first_step .. K - 1; early steps are the loudest.
        ignore_last: leave the last step out of the draw ("cps" always does: its last std is 0).
        std_min, std_max: bounds of the learned std.
        steps_reduction: how the terms of several stochastic steps are joined.
        include_start: count the constant term of the initial noise too.
        fold: evaluate all steps of a stored chain in one batch, or scan over them.
    """

    kind: Literal["ode", "sde", "noise", "cps"] = "ode"
    steps: int = 4
    noise_level: float = 0.5
    stochastic: Literal["one", "all"] = "one"
    first_step: int = 0
    ignore_last: bool = False
    std_min: float = 0.08
    std_max: float = 0.16
    steps_reduction: Literal["sum", "mean"] = "sum"
    include_start: bool = False
    fold: Literal["batch", "scan"] = "batch"

    def __post_init__(self):
        if self.kind not in ("ode", "sde", "noise", "cps"):
            raise ValueError(f"unknown kind {self.kind!r}; choose from ode, sde, noise, cps")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        most = 1.0 if self.kind == "cps" else sys.float_info.max
        if not 0 <= self.noise_level <= most:
            raise ValueError(f"noise_level {self.noise_level} is out of [0, 1] (cps) or negative")
        for name, choices in (
            ("stochastic", ("one", "all")),
            ("steps_reduction", ("sum", "mean")),
            ("fold", ("batch", "scan")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown; choose from {', '.join(choices)}"
                )
        if not 0 < self.std_min <= self.std_max < math.inf:
            raise ValueError(f"need 0 < std_min <= std_max, not {self.std_min}, {self.std_max}")
        if self.single and not 0 <= self.first_step < self.last_step:
            raise ValueError(
                f"no step to draw: first_step {self.first_step} must be in [0, {self.last_step})"
            )

    @property
    def single(self) -> bool:
        """Whether exactly one step of each sample is stochastic."""
        return self.kind in ("sde", "cps") and self.stochastic == "one"

    @property
    def last_step(self) -> int:
        """The draw of the random step ends before this one."""
        return self.steps - (self.ignore_last or self.kind == "cps")

    def draw_index(self, batch: int, *, key: "Key[Array, '']") -> "Int[Array, ' B'] | None":
        """The random step of each sample, or None if not exactly one step is random."""
        if not self.single:
            return None
        import jax  # noqa: PLC0415 - configs stay free of JAX

        return jax.random.randint(key, (batch,), self.first_step, self.last_step)
