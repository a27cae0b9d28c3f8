"""What rides in one iteration of a target, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dsd_gym import latency
from dsd_gym.hardware import TargetHardware
from dsd_gym.request import Request


class Window(NamedTuple):
    """A window that waits for its verification. Ordered by arrival, ties by stream."""

    arrived_ms: float
    stream: int
    drafted: int
    request: Request


class CloudDraft(NamedTuple):
    """A draft model beside the target: its cost, and the window it drafts for every stream that decodes there."""

    hardware: TargetHardware
    window: int


class Shape(NamedTuple):
    """One iteration's size and length."""

    tokens: int
    total_ms: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Cloud-decoding streams, verify windows, and prefill chunks with their tokens."""

    decoding: list[Request]
    windows: list[Window]
    prefills: list[tuple[Request, int]]

    def __len__(self) -> int:
        return len(self.decoding) + len(self.windows) + len(self.prefills)

    def shape(self, row: TargetHardware, draft: CloudDraft | None, host_ms: float) -> Shape:
        """Return the size and length of the iteration."""
        tokens = sum(chunk for _, chunk in self.prefills)
        context = sum(request.context_tokens for request in self.decoding)
        total_ms = host_ms
        if draft and self.decoding:
            step_ms = draft.hardware.iteration_ms(len(self.decoding), len(self.decoding), context)
            total_ms += draft.window * step_ms
        tokens += len(self.decoding) * (1 + (draft.window if draft else 0))
        for window in self.windows:
            tokens += window.drafted + 1
            context += window.request.context_tokens
        total_ms += row.iteration_ms(tokens, len(self.decoding) + len(self.windows), context)
        if self.prefills:
            total_ms += row.prefill_fixed_ms + sum(
                latency.prefill_attention_ms(chunk, request.prefilled, row.prefill_token_ms, row.prefill_pair_ms)
                for request, chunk in self.prefills
            )
        return Shape(tokens, total_ms)
