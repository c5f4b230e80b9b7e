"""The steps of a run of GRPO: play, learn, and the new parameters play again."""

import time

import jax

from loomax.agents.pretrain.learner import TrainState
from loomax.agents.pretrain.train import due
from loomax.agents.search.train.brain import Searcher, trained_model
from loomax.agents.search.train.exam import world_index
from loomax.agents.search.train.grpo.config import SearcherGRPOConfig
from loomax.agents.search.train.grpo.learner import GRPOLearner, Rollouts
from loomax.agents.search.train.grpo.play import Game, play
from loomax.agents.search.train.trainer import WorldTrainer
from loomax.runtime.metrics import MetricsWriter, check_finite
from loomax.runtime.preemption import preemption
from loomax.runtime.progress import Progress

SHOWN = ("reward", "exact_match")


class GRPOTrainer(WorldTrainer[SearcherGRPOConfig]):
    """A searcher that learns from its own runs. What a step plays follows from its number."""

    def learn(self, state: TrainState, notes: dict, writer: MetricsWriter) -> TrainState:
        """See `Trainer`."""
        config, done = self.settings, int(state.step)
        reference = self.reference() if config.loss.kl_coef else None
        program = jax.jit(
            GRPOLearner(config, self.learner.mesh),
            donate_argnames=("state",),
            out_shardings=(self.learner.state_shardings(state), self.whole),
        )
        retriever = world_index(self.world)
        self.accept()
        with Progress(config.steps - done, config.name) as progress, preemption() as notice:
            for step in range(done + 1, config.steps + 1):
                start = time.monotonic()
                game = play(config, self.searcher(state), self.world, retriever, step)
                played_s = time.monotonic() - start
                state, learnt = program(state, reference, self.placed(game.rollouts))
                shown = game.metrics | {name: float(value) for name, value in learnt.items()}
                check_finite(shown, f"step {step}")
                times = {"play_s": played_s, "learn_s": time.monotonic() - start - played_s}
                writer.write(step, shown | times, prefix="train/")
                self.remember(game, shown, notes)
                progress.update(1, **{name: shown[name] for name in SHOWN})
                last = step == config.steps
                stopped = not last and notice.reached(step)
                if last or stopped or due(step, config.checkpoint_every):
                    self.checkpoints.save(step, state, notes | {"wall_s": self.wall_s})
                if stopped:
                    notice.stop(step, "step")
        return state

    def remember(self, game: Game, shown: dict[str, float], notes: dict) -> None:
        """Keeps what the report says of the newest step."""
        notes["tokens"] += game.tokens
        notes |= {"train_loss": shown["loss"], "train_reward": shown["reward"]}

    def searcher(self, state: TrainState) -> Searcher:
        """The newest parameters, for an engine that is closed before they are given away."""
        return Searcher(trained_model(self.settings), state.params, self.world.config.sizes)

    def placed(self, rollouts: Rollouts) -> Rollouts:
        """Rows over all devices that share the batch."""
        return jax.device_put(rollouts, self.learner.rows_sharding)
