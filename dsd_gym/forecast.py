"""What a target foresees for a request that has just arrived, from its own load: coarse, cheap and without a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dsd_gym.reference import target_row
from dsd_gym.routing.two_level import TOKENS_A_ROUND

if TYPE_CHECKING:
    import simpy

    from dsd_gym.request import Request
    from dsd_gym.scenario import TargetClass
    from dsd_gym.target import TargetServer

MEMORY_MS = 5_000.0
"""Over about so long the rate is measured at which prompts of a queue are read."""
PRIOR_MS = 500.0
"""Time that the rate without a queue counts for."""
PASSES_A_ROUND = 1.5
"""Passes that a window takes: its own, and on average half of the one in progress when it arrives."""


class Foreseen(NamedTuple):
    """What a request may expect: ms from its arrival to the first token, and ms a token of windows from the edge."""

    ttft_ms: float
    edge_tpot_ms: float


class Forecast:
    """One target's forecasts. They know nothing of the draft's speed, and of the link what the prompt met."""

    def __init__(self, env: simpy.Environment, target: TargetServer, spec: TargetClass) -> None:
        row = target_row(spec)
        self._env, self._target = env, target
        self._tokens_a_pass = min(spec.max_batch_tokens, spec.prefill_chunk_tokens or spec.max_batch_tokens)
        self._prompt_token_ms = row.token_ms + row.compute_ms + row.prefill_token_ms
        self._unread = 0
        """Prompt tokens that waited when the last request had come."""
        self._at_ms = self._read = self._reading_ms = 0.0
        """When that was; prompt tokens read, and ms that it took, while there was a queue."""

    def of(self, request: Request) -> Foreseen:
        """Return the forecast for a request that arrives now; to be asked once for each.

        The way back is taken to be as long as the way was. The first token waits for the passes that the prompts ahead
        of it need, at the compute-bound slope, and each takes as long as the last one too, for the tokens of others.
        If the queue has not been empty lately, it waits for that to be read at the rate that was seen: memory or
        room in the passes may be short. A window takes a round trip and its passes; drafting is left out.
        """
        load, round_trip_ms = self._target.load(), 2.0 * (self._env.now - request.arrival.arrival_ms)
        self._take_note(load.waiting_prompt_tokens)
        unread = self._target.prompt_tokens_ahead_of(request) + request.arrival.prompt_tokens
        passes = math.ceil(unread / self._tokens_a_pass)
        passes_ms = unread * self._prompt_token_ms + passes * load.iteration_ms
        round_ms = round_trip_ms + PASSES_A_ROUND * load.iteration_ms
        return Foreseen(round_trip_ms + max(passes_ms, unread / self._tokens_per_ms()), round_ms / TOKENS_A_ROUND)

    def admitted(self, request: Request) -> None:
        """Count the prompt of a request that the target has queued."""
        self._unread += request.arrival.prompt_tokens

    def _take_note(self, unread: int) -> None:
        """Count what has been read since the last request, if it was not all; else there is no queue."""
        since_ms = self._env.now - self._at_ms
        kept = math.exp(-since_ms / MEMORY_MS) if unread else 0.0
        self._read = kept * (self._read + max(0, self._unread - unread))
        self._reading_ms = kept * (self._reading_ms + since_ms)
        self._at_ms, self._unread = self._env.now, unread

    def _tokens_per_ms(self) -> float:
        return (self._read + PRIOR_MS / self._prompt_token_ms) / (self._reading_ms + PRIOR_MS)
