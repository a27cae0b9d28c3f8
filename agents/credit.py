"""Whose doing was it: a rollout buffer in which advantages run along each request's own rounds.

Decisions of concurrent requests interleave, and a decision's cost is known only when its round ends, many steps
later. Each decision takes a slot; a slot is complete when its round has ended and the same stream has decided again
(or ended). Only complete slots are learned from; the others are carried over to the next rollout.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from dsd_gym.records import Round

Floats = NDArray[np.float32]
PENDING, TERMINAL = -2, -1
PRIOR_TOKENS = 200.0
"""Tokens for which a deployment's average cost is taken to be the reference, until rounds have shown it."""


class StreamCredit(RolloutBuffer):
    """Completed decisions of one rollout, with advantages in the average-reward form along streams.

    A decision that committed n tokens at cost c (relative to the reference, others' delay included) earns
    n - c / rho, where rho is its deployment's average cost a token: nothing on average, whatever its size, and a
    relative gain in latency is worth the same in every deployment. n tokens later weigh `discount^n`.

    Args:
        buffer_size: decisions of each env that a rollout takes.
        gamma, gae_lambda: discount and trace decay of generalised advantage estimation, per committed token.
        externality_weight: price of the delay put on other requests.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "cpu",
        gae_lambda: float = 0.98,
        gamma: float = 0.999,
        n_envs: int = 1,
        externality_weight: float = 1.0,
    ) -> None:
        self.externality_weight = externality_weight
        self._width = int(np.prod(observation_space.shape or ()))
        self._streams: list[dict[int, int]] = [{} for _ in range(n_envs)]
        self._episode_cost = [PRIOR_TOKENS] * n_envs
        self._episode_tokens = [PRIOR_TOKENS] * n_envs
        self._used = self._carried = 0
        self._next = np.zeros(0, np.int64)
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    # --- filling it -----------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Empty the buffer but for decisions that are still to be completed."""
        kept = np.flatnonzero(self._next[: self._used] == PENDING)
        old = self.__dict__.copy()
        capacity = len(kept) + self.buffer_size * self.n_envs
        self.observations = np.zeros((capacity, self._width), np.float32)
        for name, dtype in _COLUMNS.items():
            setattr(self, name, np.zeros(capacity, dtype))
        self._next.fill(PENDING)
        for name in ("observations", *_COLUMNS):
            if len(kept):
                getattr(self, name)[: len(kept)] = old[name][kept]
        place = {int(slot): index for index, slot in enumerate(kept)}
        self._streams = [{s: place[slot] for s, slot in streams.items()} for streams in self._streams]
        self._used = self._carried = len(kept)
        self.pos, self.full = 0, False

    def decided(
        self, streams: Sequence[int], observations: Floats, actions: NDArray[Any], values: Floats, log_probs: Floats
    ) -> None:
        """Open a slot for each env's decision, and complete the slot of the same stream's last one."""
        first, after = self._used, self._used + self.n_envs
        self.observations[first:after] = observations
        self._action[first:after] = actions
        self._value[first:after] = values
        self._log_prob[first:after] = log_probs
        self._env[first:after] = range(self.n_envs)
        for env, stream in enumerate(streams):
            last = self._streams[env].get(stream)
            if last is not None:
                self._next[last] = first + env
            self._streams[env][stream] = first + env
        self._used = after
        self.full = after - self._carried >= self.buffer_size * self.n_envs

    def happened(self, env: int, rounds: Sequence[Round], ended: Sequence[int], reference_ms: float) -> None:
        """Enter the rounds that ended in one env's last step, and the streams that ended."""
        streams = self._streams[env]
        for round in rounds:
            slot = streams[round.stream]
            cost = (round.elapsed_ms + self.externality_weight * round.externality_ms) / reference_ms
            self._cost[slot], self._tokens[slot] = cost, round.committed
            self._episode_cost[env] += cost
            self._episode_tokens[env] += round.committed
            self._average[slot] = self._episode_cost[env] / self._episode_tokens[env]
        for stream in ended:
            slot = streams.pop(stream, PENDING)  # a request of one token, or rejected, never asked
            if slot != PENDING:
                self._next[slot] = TERMINAL

    def cut(self, env: int) -> None:
        """End an env's episode: decisions in flight are dropped, those before them keep their next value."""
        for slot in self._streams[env].values():
            self._next[slot] = slot  # marks it dropped: never its own successor otherwise
        self._streams[env] = {}
        self._episode_cost[env] = self._episode_tokens[env] = PRIOR_TOKENS

    # --- learning from it -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Compute the advantages of the completed decisions, last to first, each from its stream's next."""
        used = self._used
        follow, tokens, values = (c[:used].tolist() for c in (self._next, self._tokens, self._value))
        rewards = (self._tokens[:used] - self._cost[:used] / np.maximum(self._average[:used], 1e-9)).tolist()
        advantages = [0.0] * used
        for slot in range(used - 1, -1, -1):
            after = follow[slot]
            if after in (PENDING, slot):
                continue
            discount = self.gamma ** tokens[slot]
            if after == TERMINAL:
                advantages[slot] = rewards[slot] - values[slot]
            else:
                trace = discount * self.gae_lambda ** tokens[slot]
                advantages[slot] = rewards[slot] + discount * values[after] - values[slot] + trace * advantages[after]
        slots = np.arange(used)
        self._learned = slots[(self._next[:used] != PENDING) & (self._next[:used] != slots)]
        self.advantages = np.array(advantages, np.float32)[self._learned]
        self.values = self._value[self._learned]
        self.returns = self.advantages + self.values

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the completed decisions once, in random minibatches."""
        order = torch.randperm(len(self._learned)).numpy()
        for start in range(0, len(order), batch_size or len(order)):
            chosen = order[start : start + (batch_size or len(order))]
            if len(chosen) < 2:  # advantages are normalised by their deviation
                continue
            slots = self._learned[chosen]
            yield RolloutBufferSamples(
                torch.from_numpy(self.observations[slots]),
                torch.from_numpy(self._action[slots]),
                torch.from_numpy(self.values[chosen]),
                torch.from_numpy(self._log_prob[slots]),
                torch.from_numpy(self.advantages[chosen]),
                torch.from_numpy(self.returns[chosen]),
            )

    def learned(self) -> dict[str, NDArray[Any]]:
        """Return actions, tokens, cost and average cost of the completed decisions, for the log."""
        at = self._learned
        return {
            "action": self._action[at],
            "tokens": self._tokens[at],
            "cost": self._cost[at],
            "average": self._average[at],
            "observation": self.observations[at],
        }


_COLUMNS: dict[str, Any] = {
    "_action": np.int64,
    "_value": np.float32,
    "_log_prob": np.float32,
    "_env": np.int32,
    "_cost": np.float64,
    "_tokens": np.float64,
    "_average": np.float64,
    "_next": np.int64,
}
