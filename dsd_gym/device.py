"""An edge device: one draft model, which serves its streams first come, first served, and drafts ahead if told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsd_gym.stream_view import LinkEstimate

if TYPE_CHECKING:
    from dsd_gym.network import Link
    from dsd_gym.request import Request

_ROUNDING = 1e-9
"""Fraction of a step by which sums of floating-point ms may miss its end."""


class DraftAhead:
    """Drafting on while a window is away, as if all of it were accepted: one token each `step_ms` from `start_ms` on.

    The first token ahead is a guess at the bonus token, the second the first guess of the next window.
    """

    __slots__ = ("_limit", "_promised", "_stopped", "start_ms", "step_ms")

    def __init__(self, start_ms: float, step_ms: float, limit: int) -> None:
        self.start_ms, self.step_ms, self._limit = start_ms, step_ms, limit
        self._stopped: int | None = None
        self._promised = 0

    def tokens(self, now_ms: float) -> int:
        """Return how many tokens ahead are there."""
        if self._stopped is not None:
            return self._stopped
        return max(0, min(self._limit, int((now_ms - self.start_ms) / self.step_ms + _ROUNDING)))

    def promise(self, tokens: int, now_ms: float) -> float:
        """Return when so many tokens will be there; other work waits for them."""
        self._promised = tokens
        return max(now_ms, self.there_ms(tokens))

    def there_ms(self, tokens: int) -> float:
        """Return when so many tokens ahead are there, if it is not stopped before."""
        return self.start_ms + tokens * self.step_ms

    def stop(self, now_ms: float) -> float:
        """Stop after the step in progress, and after what was promised; return when the draft is free."""
        if self._stopped is not None or (now_ms < self.start_ms and not self._promised):
            self._stopped = self._stopped or 0
            return now_ms
        there = self.tokens(now_ms)
        self._stopped = there if there == self._limit else max(there + 1, self._promised)
        return max(now_ms, self.there_ms(self._stopped))

    @property
    def stopped(self) -> bool:
        """Return whether the device has gone on to something else."""
        return self._stopped is not None

    def left_over_ms(self, taken: int, now_ms: float) -> float:
        """Return the ms of work beyond the first `taken` tokens, the step in progress included; negative: missing."""
        return min(now_ms - self.start_ms, self._limit * self.step_ms) - taken * self.step_ms


class Device:
    """One draft model and one link, shared by the streams of a device; it drafts ahead of one stream at a time."""

    __slots__ = (
        "_ahead",
        "_ahead_limit",
        "_estimates",
        "busy_until_ms",
        "class_index",
        "draft_ms",
        "estimate",
        "index",
        "link",
        "prefill_ms",
    )

    def __init__(
        self, index: int, class_index: int, draft_ms: float, prefill_ms: float, link: Link, ahead_limit: int = 0
    ) -> None:
        self.index, self.class_index = index, class_index
        self.draft_ms, self.prefill_ms, self.link = draft_ms, prefill_ms, link
        self.estimate = LinkEstimate()
        self._estimates = {0.0: self.estimate}
        self.busy_until_ms = 0.0
        self._ahead: DraftAhead | None = None
        self._ahead_limit = ahead_limit

    def estimate_to(self, region_rtt_ms: float) -> LinkEstimate:
        """Return what the device knows of its way to a region: an estimate for each round trip beyond its link."""
        return self._estimates.setdefault(region_rtt_ms, LinkEstimate())

    def compute(self, now_ms: float, work_ms: float) -> float:
        """Book the draft model for `work_ms` from `now_ms` on and return when it will be done."""
        if self._ahead is not None:
            self._give_way(now_ms)
        self.busy_until_ms = max(now_ms, self.busy_until_ms) + work_ms
        return self.busy_until_ms

    def first_guess(self, request: Request, now_ms: float) -> float:
        """Return when the first guess of the next window is there: drafted ahead, or drafted now."""
        ahead = request.ahead
        if ahead is not None and not ahead.stopped:
            return ahead.promise(2, now_ms)
        there_ms = ahead.there_ms(2) if ahead is not None else now_ms
        self._count_ahead(request, now_ms)
        if request.guessed:
            return max(now_ms, there_ms)
        request.guessed = 1
        return self.compute(now_ms, self.draft_ms)

    def draft(self, request: Request, window: int, now_ms: float) -> float:
        """Return when `window` tokens are drafted, those counted that are there already, and draft on if so set."""
        left_over_ms, ahead = 0.0, request.ahead
        if ahead is not None and not ahead.stopped:
            left_over_ms = ahead.left_over_ms(window + 1, now_ms)
            self._ahead = None  # it goes on without a pause, so there is nothing to give way to
            drafted_ms = self.compute(now_ms, max(0.0, -left_over_ms))
        else:
            self._count_ahead(request, now_ms)
            missing = window - request.guessed
            drafted_ms = self.compute(now_ms, missing * self.draft_ms) if missing > 0 else now_ms
        if self._ahead_limit:
            start_ms = self.compute(drafted_ms, 0.0) - max(0.0, left_over_ms)
            request.ahead = self._ahead = DraftAhead(start_ms, self.draft_ms, self._ahead_limit)
        return drafted_ms

    def verified(self, request: Request, as_drafted: bool, now_ms: float) -> None:
        """Go on with what was drafted ahead, or drop it: the step in progress is finished first."""
        request.guessed = 0
        if request.ahead is None or as_drafted:
            return
        ahead, request.ahead = request.ahead, None
        if ahead is self._ahead:
            self._give_way(now_ms)

    def _count_ahead(self, request: Request, now_ms: float) -> None:
        """Take over what was drafted ahead until the device had other work: all but the bonus token."""
        if request.ahead is not None:
            request.guessed, request.ahead = max(0, request.ahead.tokens(now_ms) - 1), None

    def _give_way(self, now_ms: float) -> None:
        assert self._ahead is not None
        self.busy_until_ms = max(self.busy_until_ms, self._ahead.stop(now_ms))
        self._ahead = None
