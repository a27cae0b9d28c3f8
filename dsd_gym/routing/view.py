"""What a router can know of a target: what it has sent there itself, and what the target last reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsd_gym.target.load import TargetLoad

if TYPE_CHECKING:
    from dsd_gym.request import Request
    from dsd_gym.target import TargetServer

GAIN = 0.25
"""Weight of the newest report in what is smoothed: one pass may hold a long prompt and the next none."""


class TargetView:
    """One target as the router sees it. Requests and their tokens pass through the router, so those counts are exact.

    Attributes:
        target: the target itself, to be sent to and not to be looked into.
        tier: the number of its class.
        rtt_ms: the round trip between router and target, as measured.
        requests: those routed there whose last token the edge has not acknowledged, by stream.
        report: the target's last report of its load.
        reported_ms: when it was made.
        sent_since_report: requests routed there since.
        iteration_ms, unread_tokens: length of its passes and prompt tokens that wait, smoothed over reports.
    """

    __slots__ = (
        "iteration_ms",
        "report",
        "reported_ms",
        "requests",
        "rtt_ms",
        "sent_since_report",
        "target",
        "tier",
        "unread_tokens",
    )

    def __init__(self, target: TargetServer, tier: int = 0, rtt_ms: float = 0.0) -> None:
        self.target, self.tier, self.rtt_ms = target, tier, rtt_ms
        self.requests: dict[int, Request] = {}
        self.iteration_ms = target.one_token_iteration_ms
        self.report = TargetLoad(0, 0, 0, 0, 0.0, self.iteration_ms, 0, 0.0)
        self.reported_ms = self.unread_tokens = 0.0
        self.sent_since_report = 0

    @property
    def in_flight(self) -> int:
        """Return the requests routed there whose last token has not come out yet."""
        return self.target.live

    @property
    def one_token_iteration_ms(self) -> float:
        """Return the ms of a pass with one token: the target's speed, known when it is set up."""
        return self.target.one_token_iteration_ms

    def take_report(self, now_ms: float) -> None:
        """Let the target say how busy it is."""
        self.report, self.reported_ms, self.sent_since_report = self.target.load(), now_ms, 0
        self.iteration_ms += GAIN * (self.report.iteration_ms - self.iteration_ms)
        self.unread_tokens += GAIN * (self.report.waiting_prompt_tokens - self.unread_tokens)

    def report_age_ms(self, now_ms: float) -> float:
        """Return how old the last report is."""
        return now_ms - self.reported_ms
