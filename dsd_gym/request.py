"""What the simulated world knows of one live request; its edge knows only `view`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsd_gym.messages import Inbox
from dsd_gym.records import Round
from dsd_gym.stream_view import StreamView
from dsd_gym.workload import Arrival

if TYPE_CHECKING:
    from dsd_gym.acceptance import Tape
    from dsd_gym.device import Device, DraftAhead
    from dsd_gym.network import Link
    from dsd_gym.network.region import RegionLink
    from dsd_gym.scenario import Slo
    from dsd_gym.target import TargetServer, Verdict


class Request:
    """A request's state. `committed` counts output tokens the edge has; `verified` those the target has."""

    __slots__ = (
        "admitted",
        "ahead",
        "arrival",
        "cloud_mode",
        "committed",
        "decided_ms",
        "decoded_in_chunk",
        "degraded",
        "device",
        "draft_ready_ms",
        "externality_ms",
        "first_token_ms",
        "guessed",
        "held_tokens",
        "inbox",
        "kv_tokens",
        "link",
        "prefill_tokens",
        "prefilled",
        "priority",
        "queued_ms",
        "round_start_ms",
        "slo",
        "stopping",
        "tape",
        "target",
        "unread_tokens",
        "verified",
        "view",
    )

    def __init__(
        self,
        arrival: Arrival,
        device: Device,
        target: TargetServer,
        tape: Tape,
        inbox: Inbox,
        view: StreamView,
        slo: Slo,
        priority: int = 0,
    ) -> None:
        self.arrival, self.device, self.target = arrival, device, target
        self.tape, self.inbox, self.view = tape, inbox, view
        self.link: Link | RegionLink = device.link
        self.slo, self.priority = slo, priority
        self.committed = self.verified = self.prefilled = self.decoded_in_chunk = 0
        self.kv_tokens = arrival.prompt_tokens + arrival.output_tokens
        self.prefill_tokens = arrival.prompt_tokens
        """Tokens to be prefilled before the target can go on: more than the prompt after it has lost the cache."""
        self.held_tokens = self.admitted = 0
        """KV memory held at the target, and the number of its admission there."""
        self.cloud_mode = self.stopping = False
        self.degraded = False
        """The cloud decodes all of it, and nobody is asked."""
        self.externality_ms = self.queued_ms = 0.0
        self.round_start_ms = self.decided_ms = arrival.arrival_ms
        self.guessed = 0
        """Tokens of the next window that are drafted already."""
        self.ahead: DraftAhead | None = None
        """What the draft does while a window is away."""
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
    def cached_tokens(self) -> int:
        """Return the tokens whose keys and values the target needs: all but the last verified, which comes next."""
        return self.arrival.prompt_tokens + max(self.verified - 1, 0)

    @property
    def finished(self) -> bool:
        """Return whether the edge has every output token."""
        return self.committed >= self.arrival.output_tokens

    def end_round(
        self,
        now_ms: float,
        window: int,
        drafted: int,
        verdict: Verdict | None,
        decoded: Sequence[Verdict],
        up_bytes: float,
    ) -> Round:
        """Return the round that ends now; the next one begins."""
        report = self.view.report
        cloud_tokens, externality_ms, down_bytes = 0, 0.0, 0.0
        for message in decoded:
            cloud_tokens += message.tokens
            externality_ms += message.externality_ms
            down_bytes += message.message_bytes
        if verdict:
            externality_ms += verdict.externality_ms
            down_bytes += verdict.message_bytes
        start_ms, self.round_start_ms = self.round_start_ms, now_ms
        return Round(
            self.arrival.stream,
            start_ms,
            self.decided_ms,
            now_ms,
            window,
            drafted,
            verdict.accepted if verdict else 0,
            cloud_tokens,
            cloud_tokens + (verdict.tokens if verdict else 0),
            self.view.link.last_ms,
            report.queue_wait_ms,
            report.iteration_ms,
            report.batch_size,
            externality_ms,
            up_bytes,
            down_bytes,
        )
