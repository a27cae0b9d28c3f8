"""What the simulated world knows of one live request; its edge knows only `view`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsd_gym.messages import Inbox
from dsd_gym.observation import LinkEstimate, StreamView
from dsd_gym.workload import Arrival

if TYPE_CHECKING:
    from dsd_gym.acceptance import Tape
    from dsd_gym.network import Link
    from dsd_gym.target import TargetServer


class Device:
    """An edge device: one draft model, which serves its streams first come, first served, and one link."""

    __slots__ = ("busy_until_ms", "class_index", "draft_ms", "estimate", "index", "link", "prefill_ms")

    def __init__(self, index: int, class_index: int, draft_ms: float, prefill_ms: float, link: Link) -> None:
        self.index, self.class_index = index, class_index
        self.draft_ms, self.prefill_ms, self.link = draft_ms, prefill_ms, link
        self.estimate = LinkEstimate()
        self.busy_until_ms = 0.0

    def compute(self, now_ms: float, work_ms: float) -> float:
        """Book the draft model for `work_ms` from `now_ms` on and return when it will be done."""
        self.busy_until_ms = max(now_ms, self.busy_until_ms) + work_ms
        return self.busy_until_ms


class Request:
    """A request's state. `committed` counts output tokens the edge has; `verified` those the target has."""

    __slots__ = (
        "arrival",
        "cloud_mode",
        "committed",
        "decided_ms",
        "decoded_in_chunk",
        "device",
        "draft_ready_ms",
        "externality_ms",
        "first_token_ms",
        "guessed",
        "inbox",
        "kv_tokens",
        "prefilled",
        "queued_ms",
        "round_start_ms",
        "stopping",
        "tape",
        "target",
        "unread_tokens",
        "verified",
        "view",
    )

    def __init__(
        self, arrival: Arrival, device: Device, target: TargetServer, tape: Tape, inbox: Inbox, view: StreamView
    ) -> None:
        self.arrival, self.device, self.target = arrival, device, target
        self.tape, self.inbox, self.view = tape, inbox, view
        self.committed = self.verified = self.prefilled = self.decoded_in_chunk = 0
        self.kv_tokens = arrival.prompt_tokens + arrival.output_tokens
        self.cloud_mode = self.stopping = False
        self.externality_ms = self.queued_ms = 0.0
        self.round_start_ms = self.decided_ms = arrival.arrival_ms
        self.guessed = False
        self.first_token_ms: float | None = None
        self.draft_ready_ms = 0.0
        """When the draft will have read the prompt."""
        self.unread_tokens = 0
        """Tokens decoded in the cloud that the draft has not read."""

    @property
    def context_tokens(self) -> int:
        """Return the tokens in the target's cache for this request."""
        return self.arrival.prompt_tokens + self.verified

    @property
    def finished(self) -> bool:
        """Return whether the edge has every output token."""
        return self.committed >= self.arrival.output_tokens
