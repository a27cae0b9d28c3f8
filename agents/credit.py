"""Whose doing was it: a rollout buffer in which advantages run along each request's own rounds.

Decisions of concurrent requests interleave, and a decision's cost is known only when its round ends, many steps
later. Each decision takes a slot; a slot is complete when its round has ended and the same stream has decided again
(or ended). Only complete slots are learned from; the others are carried over to the next rollout.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from agents.stream_links import DROPPED, PENDING, TERMINAL, advantages, end_streams, enter_rounds
from agents.train_config import Credit
from dsd_gym.vector.layout import Records

Floats = NDArray[np.float32]
PRIOR_TOKENS = 200.0
"""Tokens for which a deployment's average cost is taken to be the reference, until rounds have shown it."""

PRIOR_DECISIONS = 16.0
"""Decisions for which a deployment's advantages are taken to vary as all do."""
MOST_AVERAGE = 50.0
"""Average cost, in multiples of the reference, from which on a critic sees no difference."""


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
        self.deployment = np.zeros(capacity, np.int64)
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
    relative gain in latency is worth the same in every deployment. n tokens later weigh `discount^n`. Advantages, not
    the critic's returns, are then divided by their size in each deployment. `credit` has other ways (docs/training.md).

    Args:
        buffer_size: decisions of each env that a rollout takes.
        gamma, gae_lambda: discount and trace decay of generalised advantage estimation, per unit of `credit.span`.
        credit: how a decision is judged.
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
        credit: Credit | None = None,
    ) -> None:
        self.credit = credit or Credit()
        self._width = int(np.prod(observation_space.shape or ()))
        self._action_shape = action_space.shape or ()
        self._slot_of = np.full((n_envs, 64), PENDING)
        self._total_cost, self._total_tokens = np.full(n_envs, PRIOR_TOKENS), np.full(n_envs, PRIOR_TOKENS)
        self._rows = np.arange(n_envs)
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
        place = np.full(self._used + 1, PENDING)  # the last is that of streams without a decision
        place[kept] = np.arange(len(kept))
        self._slot_of = place[np.where(self._slot_of < 0, self._used, self._slot_of)]
        self._slots = slots
        self._used = self._carried = len(kept)
        self.pos, self.full = 0, False

    def decided(
        self,
        streams: NDArray[np.int64],
        observations: Floats,
        actions: NDArray[Any],
        values: Floats,
        log_probs: Floats,
    ) -> None:
        """Open a slot for each env's decision, and complete the slot of the same stream's last one."""
        first, after = self._used, self._used + self.n_envs
        slots = self._slots
        slots.deployment[first:after] = self._rows
        slots.observation[first:after] = observations
        slots.action[first:after] = actions
        slots.value[first:after] = values
        slots.log_prob[first:after] = log_probs
        if self.credit.chain == "env":
            streams = np.zeros_like(streams)
        self._widen(int(streams.max()))
        last, new = self._slot_of[self._rows, streams], np.arange(first, after)
        slots.next[last[last >= 0]] = new[last >= 0]
        self._slot_of[self._rows, streams] = new
        self._used = after
        self.full = after - self._carried >= self.buffer_size * self.n_envs

    def happened(self, rounds: Records, ended: Records, reference_ms: NDArray[np.float64]) -> None:
        """Enter the rounds that ended in the last step, and the streams that did."""
        if self.credit.chain == "env":
            return
        for told in (rounds, ended):  # admission may have left a request to the cloud, which never asked
            if len(told):
                self._widen(int(told["stream"].max()))
        slots, weight, team = self._slots, self.credit.externality_weight, self.credit.cost == "team"
        enter_rounds(
            rounds,
            self._slot_of,
            slots.cost,
            slots.tokens,
            slots.average,
            self._total_cost,
            self._total_tokens,
            reference_ms,
            weight,
            self.credit.crowd or np.inf,
            team,
        )
        end_streams(ended, self._slot_of, slots.next)

    def stepped(self, rewards: Floats, rounds: Records, dones: NDArray[np.bool_]) -> None:
        """Enter the env's own rewards, where decisions follow each other in the order of its steps."""
        if self.credit.chain != "env":
            return
        slots, slot = self._slots, self._slot_of[self._rows, 0]
        committed = np.bincount(rounds["deployment"], rounds["committed"], self.n_envs)
        slots.cost[slot], slots.tokens[slot] = -rewards, committed
        self._total_cost -= rewards
        self._total_tokens += committed
        slots.average[slot] = self._total_cost / self._total_tokens
        slots.next[slot[dones]] = TERMINAL
        self._slot_of[dones, 0] = PENDING

    def cut(self, envs: NDArray[np.intp]) -> None:
        """End episodes: decisions in flight are dropped, those before them keep their next value."""
        pending = self._slot_of[envs]
        self._slots.next[pending[pending >= 0]] = DROPPED
        self._slot_of[envs] = PENDING
        self._total_cost[envs] = self._total_tokens[envs] = PRIOR_TOKENS

    def averages(self) -> Floats:
        """Return what a token has cost in each deployment so far, scaled to [0, 1]: what rewards are relative to."""
        averages = self._total_cost / self._total_tokens
        scaled: Floats = np.minimum(np.log1p(averages) / np.log1p(MOST_AVERAGE), 1.0).astype(np.float32)
        return scaled

    def _widen(self, stream: int) -> None:
        """Have room for streams up to this number."""
        if stream >= self._slot_of.shape[1]:
            wider = np.full((self.n_envs, 2 * stream), PENDING)
            wider[:, : self._slot_of.shape[1]] = self._slot_of
            self._slot_of = wider

    # --- learning from it -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Compute the advantages of the completed decisions, last to first, each from its stream's next."""
        used, slots = self._used, self._slots
        spans = slots.tokens[:used] if self.credit.span == "token" else np.ones(used)
        rewards, values = self._rewards(), slots.value[:used].astype(np.float64)
        found = advantages(slots.next[:used], spans, rewards, values, self.gamma, self.gae_lambda)
        self._learned = np.flatnonzero(slots.next[:used] >= TERMINAL)
        self.advantages = found[self._learned].astype(np.float32)
        self.values = slots.value[self._learned]
        self.returns = self.advantages + self.values
        if self.credit.scaled_in == "deployment":
            self.advantages /= self._deviations()[slots.deployment[self._learned]]

    def _deviations(self) -> Floats:
        """Return the root mean square of each deployment's advantages, pulled to that of all by a prior, (n_envs,)."""
        places, squares = self._slots.deployment[self._learned], self.advantages.astype(np.float64) ** 2
        counts = np.bincount(places, minlength=self.n_envs)
        overall = max(1e-12, squares.sum() / max(1, len(squares)))
        sums = np.bincount(places, squares, self.n_envs) + PRIOR_DECISIONS * overall
        found: Floats = np.sqrt(sums / (counts + PRIOR_DECISIONS)).astype(np.float32)
        return found

    def _rewards(self) -> NDArray[np.float64]:
        """Return what each decision earned."""
        used, slots, credit = self._used, self._slots, self.credit
        cost, tokens = slots.cost[:used], slots.tokens[:used]
        scale = {"average": slots.average[:used], "reference": np.ones(used)}[credit.relative_to]
        return tokens - cost / scale if credit.form == "average" else -cost / scale

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
