"""What rides in one iteration of a target, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dsd_gym import latency
from dsd_gym.hardware import TargetHardware
from dsd_gym.request import Request
from dsd_gym.target.cost import IterationCost


class Window(NamedTuple):
    """A window that waits for its verification. Ordered by rank, then arrival, ties by stream."""

    rank: float
    arrived_ms: float
    stream: int
    drafted: int
    request: Request

    @property
    def tokens(self) -> int:
        """Return the tokens that the target computes: those drafted and one of its own."""
        return self.drafted + 1


class CloudDraft(NamedTuple):
    """A draft model beside the target: its cost, and the window it drafts for every stream that decodes there."""

    hardware: TargetHardware
    window: int


class Padding(NamedTuple):
    """The windows of a padded pass, all computed as if they were as long as the longest."""

    windows: int
    longest: int
    second: int
    """Tokens of the longest two."""

    @property
    def tokens(self) -> int:
        """Return the tokens that are computed."""
        return self.windows * self.longest

    def with_window(self, tokens: int) -> Padding:
        """Return the windows and one more."""
        longest, second = sorted((self.longest, self.second, tokens), reverse=True)[:2]
        return Padding(self.windows + 1, longest, second)

    def added_tokens(self, tokens: int) -> int:
        """Return the computed tokens that a window of `tokens` brings: without the longest, all are shorter."""
        if tokens < self.longest:
            return self.longest
        return self.tokens - (self.windows - 1) * self.second


NO_WINDOWS = Padding(0, 0, 0)


class Shape(NamedTuple):
    """One iteration's size and length."""

    tokens: int
    """Tokens in the pass, padding included."""
    total_ms: float
    padding: Padding | None
    """How its windows are padded, where they are."""


class PassCosts(NamedTuple):
    """What goes into the length of a target's passes."""

    target: IterationCost
    row: TargetHardware
    draft: IterationCost | None
    """Of the draft beside the target."""
    draft_window: int
    host_ms: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Cloud-decoding streams, verify windows, and prefill chunks with their tokens."""

    decoding: list[Request]
    windows: list[Window]
    prefills: list[tuple[Request, int]]
    padding: Padding | None = None

    def __len__(self) -> int:
        return len(self.decoding) + len(self.windows) + len(self.prefills)

    def shape(self, costs: PassCosts) -> Shape:
        """Return the size and length of the iteration."""
        row, streams = costs.row, len(self.decoding)
        tokens = sum(chunk for _, chunk in self.prefills)
        context = sum(request.context_tokens for request in self.decoding)
        total_ms = costs.host_ms
        if costs.draft and streams:
            total_ms += costs.draft_window * costs.draft.iteration_ms(streams, streams, context)
        tokens += streams * (1 + costs.draft_window)
        for window in self.windows:
            tokens += window.drafted + 1
            context += window.request.context_tokens
        if self.padding:
            tokens += self.padding.tokens - sum(window.tokens for window in self.windows)
        total_ms += costs.target.iteration_ms(tokens, streams + len(self.windows), context)
        if self.prefills:
            attention_ms = 0.0
            for request, chunk in self.prefills:
                attention_ms += latency.prefill_attention_ms(
                    chunk, request.prefilled, row.prefill_token_ms, row.prefill_pair_ms
                )
            total_ms += row.prefill_fixed_ms + attention_ms
        return Shape(tokens, total_ms, self.padding)
