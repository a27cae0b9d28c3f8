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
TERMINAL, PENDING, DROPPED = -1, -2, -3
PRIOR_TOKENS = 200.0
"""Tokens for which a deployment's average cost is taken to be the reference, until rounds have shown it."""


class Slots:
    """One row for each decision."""

    def __init__(self, capacity: int, width: int, action_shape: tuple[int, ...] = ()) -> None:
        self.observation = np.zeros((capacity, width), np.float32)
        self.action = np.zeros((capacity, *action_shape), np.int64)
        self.value = np.zeros(capacity, np.float32)
        self.log_prob = np.zeros(capacity, np.float32)
        self.cost = np.zeros(capacity)
        self.tokens = np.zeros(capacity)
        self.average = np.ones(capacity)
        """Cost a token of the deployment, up to this decision's round."""
        self.next = np.full(capacity, PENDING)
        """Slot of the stream's next decision, or TERMINAL, PENDING or DROPPED."""

    def begin_with(self, rows: NDArray[np.intp], other: Slots) -> None:
        """Take over rows of another table as this one's first."""
        for name, column in vars(self).items():
            column[: len(rows)] = getattr(other, name)[rows]


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
        self._action_shape = action_space.shape or ()
        self._streams: list[dict[int, int]] = [{} for _ in range(n_envs)]
        self._episode_cost = [PRIOR_TOKENS] * n_envs
        self._episode_tokens = [PRIOR_TOKENS] * n_envs
        self._used = self._carried = 0
        self._slots = Slots(0, self._width, self._action_shape)
        self._learned = np.zeros(0, np.intp)
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    # --- filling it -----------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Empty the buffer but for decisions that are still to be completed."""
        kept = np.flatnonzero(self._slots.next[: self._used] == PENDING)
        slots = Slots(len(kept) + self.buffer_size * self.n_envs, self._width, self._action_shape)
        slots.begin_with(kept, self._slots)
        place = {int(slot): index for index, slot in enumerate(kept)}
        self._streams = [{s: place[slot] for s, slot in streams.items()} for streams in self._streams]
        self._slots = slots
        self._used = self._carried = len(kept)
        self.pos, self.full = 0, False

    def decided(
        self, streams: Sequence[int], observations: Floats, actions: NDArray[Any], values: Floats, log_probs: Floats
    ) -> None:
        """Open a slot for each env's decision, and complete the slot of the same stream's last one."""
        first, after = self._used, self._used + self.n_envs
        slots = self._slots
        slots.observation[first:after] = observations
        slots.action[first:after] = actions
        slots.value[first:after] = values
        slots.log_prob[first:after] = log_probs
        for env, stream in enumerate(streams):
            last = self._streams[env].get(stream)
            if last is not None:
                slots.next[last] = first + env
            self._streams[env][stream] = first + env
        self._used = after
        self.full = after - self._carried >= self.buffer_size * self.n_envs

    def happened(self, env: int, rounds: Sequence[Round], ended: Sequence[int], reference_ms: float) -> None:
        """Enter the rounds that ended in one env's last step, and the streams that ended."""
        streams = self._streams[env]
        for round in rounds:
            slot = streams.get(round.stream)
            if slot is None:  # admission left the request to the cloud: nobody decided
                continue
            cost = (round.elapsed_ms + self.externality_weight * round.externality_ms) / reference_ms
            self._slots.cost[slot], self._slots.tokens[slot] = cost, round.committed
            self._episode_cost[env] += cost
            self._episode_tokens[env] += round.committed
            self._slots.average[slot] = self._episode_cost[env] / self._episode_tokens[env]
        for stream in ended:
            slot = streams.pop(stream, PENDING)  # a request of one token, or rejected, never asked
            if slot != PENDING:
                self._slots.next[slot] = TERMINAL

    def cut(self, env: int) -> None:
        """End an env's episode: decisions in flight are dropped, those before them keep their next value."""
        for slot in self._streams[env].values():
            self._slots.next[slot] = DROPPED
        self._streams[env] = {}
        self._episode_cost[env] = self._episode_tokens[env] = PRIOR_TOKENS

    # --- learning from it -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Compute the advantages of the completed decisions, last to first, each from its stream's next."""
        used, slots = self._used, self._slots
        follow, tokens, values = (column[:used].tolist() for column in (slots.next, slots.tokens, slots.value))
        rewards = (slots.tokens[:used] - slots.cost[:used] / slots.average[:used]).tolist()
        advantages = [0.0] * used
        for slot in range(used - 1, -1, -1):
            after = follow[slot]
            if after in (PENDING, DROPPED):
                continue
            discount = self.gamma ** tokens[slot]
            if after == TERMINAL:
                advantages[slot] = rewards[slot] - values[slot]
            else:
                trace = discount * self.gae_lambda ** tokens[slot]
                advantages[slot] = rewards[slot] + discount * values[after] - values[slot] + trace * advantages[after]
        self._learned = np.flatnonzero(slots.next[:used] >= TERMINAL)
        self.advantages = np.array(advantages, np.float32)[self._learned]
        self.values = slots.value[self._learned]
        self.returns = self.advantages + self.values

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the completed decisions once, in random minibatches."""
        order = torch.randperm(len(self._learned)).numpy()
        for start in range(0, len(order), batch_size or len(order)):
            chosen = order[start : start + (batch_size or len(order))]
            if len(chosen) < 2:  # advantages are normalised by their deviation
                continue
            rows = self._learned[chosen]
            yield RolloutBufferSamples(
                torch.from_numpy(self._slots.observation[rows]),
                torch.from_numpy(self._slots.action[rows]),
                torch.from_numpy(self.values[chosen]),
                torch.from_numpy(self._slots.log_prob[rows]),
                torch.from_numpy(self.advantages[chosen]),
                torch.from_numpy(self.returns[chosen]),
            )

    def learned(self) -> Slots:
        """Return the completed decisions, for the log."""
        slots = Slots(len(self._learned), self._width, self._action_shape)
        slots.begin_with(self._learned, self._slots)
        return slots
