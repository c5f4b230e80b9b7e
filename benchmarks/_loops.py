"""The ordinary way to act: compiled pieces that a Python loop calls, observations on the host.

The pieces are as good as we can make them: batched, compiled once with the same options, spread
over the same devices as ours. What differs is that nothing is fused across them and that every
observation passes through host memory, as it does between a simulator and a policy that are
separate parts of a program.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from benchmarks._rows import Program
from loomax.agents.rl.parts import Parts
from loomax.agents.rl.rollout import Acted, Transition
from loomax.runtime.compile import physics_options
from loomax.runtime.mesh import batch_sharding


class Pieces:
    """Compiled functions: `act(params, obs, key)`, `step(state, actions, keys)` for one control
    step or a chunk, and `value(params, privileged)`.

    Raises:
        ValueError: if the critic does not read the privileged state, as `quickstart`'s does.
    """

    def __init__(self, parts: Parts):
        policy, venv = parts.policy, parts.venv
        if policy.critic != "privileged":
            raise ValueError(f"the loop needs a privileged critic, not {policy.critic!r}")
        self.act = Program(lambda params, obs, key: parts.actor.act(params, obs, key=key))
        self.step = Program(venv.chunk, compiler_options=physics_options(), donate_argnums=(0,))
        self.value = Program(lambda params, known: policy.value(params, None, known, None))

    @property
    def bytes(self) -> int:
        """Of the largest piece."""
        return max(self.act.bytes, self.step.bytes, self.value.bytes)


@dataclass
class PythonLoop:
    """Acts with `pieces`; one vectorised environment step (or chunk) per call.

    Args:
        whole_chunks: execute a chunk of actions in one call and render after it. Otherwise every
            control step is a call that returns a full observation with images, which is what
            the common vector-environment interfaces do.
    """

    parts: Parts
    pieces: Pieces
    whole_chunks: bool

    def put(self, tree: Any) -> Any:
        """Host arrays to the devices, by environment."""
        return jax.device_put(tree, batch_sharding(self.parts.mesh))

    def rollout(
        self, params: Any, state: Any, obs: Any, calls: int, key: jax.Array
    ) -> tuple[Any, Any, list[Transition], int]:
        """`calls` policy calls; returns state, host observation, host transitions, steps taken."""
        obs, steps, taken = jax.device_get(obs), [], 0
        for call in range(calls):
            act_key, reset_key = jax.random.split(jax.random.fold_in(key, call))
            acted = self.pieces.act(params, self.put(obs), act_key)
            # The encoded prefix stays behind: the ordinary update encodes it again.
            acted = jax.device_get(replace(acted, context=None))
            state, following, outcomes = self._play(state, acted.chain, reset_key)
            taken += sum(int(outcome.valid.sum()) for outcome in outcomes)
            if self.whole_chunks:
                steps.append(self._transition(params, obs, acted, outcomes[0]))
            else:
                steps.append((obs, acted, outcomes))
            obs = following
        return state, obs, steps, taken

    def _play(self, state: Any, chain: np.ndarray, key: jax.Array) -> tuple[Any, Any, list]:
        chunk, size = self.parts.actor.chunk, self.parts.env.action_size
        actions = np.clip(chain[:, -1, :chunk, :size], -1, 1)
        pieces = [actions] if self.whole_chunks else np.split(actions, chunk, axis=1)
        outcomes, following = [], None
        for index, piece in enumerate(pieces):
            keys = jax.random.split(jax.random.fold_in(key, index), len(chain))
            state, following, outcome = self.pieces.step(state, self.put(piece), self.put(keys))
            following, outcome = jax.device_get((following, outcome))
            outcomes.append(outcome)
        return state, following, outcomes

    def _transition(self, params: Any, obs: Any, acted: Acted, outcome: Any) -> Transition:
        """What the update reads; next_value is right where the episode ended (see `finish`)."""
        ended = outcome.terminated | outcome.truncated
        final = np.zeros_like(acted.value)
        if ended.any():
            final = self.pieces.value(params, self.put(outcome.final_obs["privileged"]))
        return Transition(
            source=obs,
            privileged=obs["privileged"],
            chain=acted.chain,
            index=acted.index,
            log_prob=acted.log_prob,
            value=acted.value,
            next_value=np.asarray(final),
            reward=outcome.reward,
            valid=outcome.valid & ~outcome.broken[:, None],
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            success=outcome.success,
            broken=outcome.broken,
        )

    def finish(self, params: Any, obs: Any, steps: list[Transition]) -> Transition:
        """Transitions stacked to [T, B] with the values of what followed."""
        joined = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
        last = np.asarray(self.pieces.value(params, self.put(obs["privileged"])))
        following = np.concatenate([joined.value[1:], last[None]])
        ended = joined.terminated | joined.truncated
        return replace(joined, next_value=np.where(ended, joined.next_value, following))
