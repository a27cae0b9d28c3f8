"""What an edge knows of its link and of one request: what observations are made of.

The simulator and the runtime fill the same `StreamView`.
"""

from __future__ import annotations

from dsd_gym.observation import Observation, Report


class LinkEstimate:
    """What a device knows of its link: the smoothed round trip and its variation (RFC 6298, gains 1/8 and 1/4)."""

    __slots__ = ("deviation_ms", "last_ms", "smoothed_ms")

    def __init__(self) -> None:
        self.last_ms = self.smoothed_ms = self.deviation_ms = 0.0

    def measured(self, rtt_ms: float) -> None:
        """Take in one round trip."""
        self.smoothed_ms, self.deviation_ms = smoothed_rtt(self.smoothed_ms, self.deviation_ms, rtt_ms)
        self.last_ms = rtt_ms


def smoothed_rtt(smoothed_ms: float, deviation_ms: float, rtt_ms: float) -> tuple[float, float]:
    """Return the smoothed round trip and its variation after one of `rtt_ms`; 0 and 0 before the first."""
    if smoothed_ms == 0.0:
        return rtt_ms, rtt_ms / 2.0
    deviation_ms += 0.25 * (abs(smoothed_ms - rtt_ms) - deviation_ms)
    return smoothed_ms + 0.125 * (rtt_ms - smoothed_ms), deviation_ms


PRIOR_ACCEPTANCE = 0.65
"""Acceptance assumed before the first verdict: the middle of published figures for small drafts (0.55 to 0.75)."""
PRIOR_WEIGHT = 4.0
"""Tested drafts that the prior counts for."""
MEMORY = 0.9
"""Weight that a round's tests keep after each later round."""


def tests_so_far(passed: float, tested: float, window: int, accepted: int) -> tuple[float, float]:
    """Return the weights of drafts passed and tested after a verdict: unless all were accepted, one failed."""
    return passed * MEMORY + accepted, tested * MEMORY + (accepted if accepted >= window else accepted + 1)


def acceptance_estimate(passed: float, tested: float) -> float:
    """Return the share of tests passed, the prior's among them."""
    return (PRIOR_WEIGHT * PRIOR_ACCEPTANCE + passed) / (PRIOR_WEIGHT + tested)


class StreamView:
    """One request as its edge sees it: everything an observation is made of, and nothing that it could not know."""

    __slots__ = (
        "_passed",
        "_tested",
        "all_accepted",
        "draft_ms_per_token",
        "has_last_confidence",
        "has_last_round",
        "heard_ms",
        "last_accepted",
        "last_mean_confidence",
        "last_window",
        "link",
        "report",
        "uplink_ms_per_token",
    )

    def __init__(self, link: LinkEstimate, draft_ms_per_token: float, uplink_ms_per_token: float) -> None:
        self.link = link
        self.draft_ms_per_token = draft_ms_per_token
        self.uplink_ms_per_token = uplink_ms_per_token
        self.report = Report(0.0, 0.0, 0, 0, 0.0, 0.0)
        self.heard_ms = 0.0
        self.last_window = self.last_accepted = 0
        self.all_accepted = self.has_last_round = self.has_last_confidence = False
        self.last_mean_confidence = 0.0
        self._passed = self._tested = 0.0

    def heard(self, report: Report, now_ms: float) -> None:
        """Take in the report that came with a message."""
        self.report, self.heard_ms = report, now_ms

    def verified(self, window: int, accepted: int, mean_confidence: float) -> None:
        """Take in a verdict on a window: `accepted` tests passed and, unless all were, one failed."""
        self.last_window, self.last_accepted = window, accepted
        self.all_accepted = accepted >= window
        self.last_mean_confidence = mean_confidence
        self.has_last_round = self.has_last_confidence = True
        self._passed, self._tested = tests_so_far(self._passed, self._tested, window, accepted)

    def decoded_in_cloud(self) -> None:
        """Take in what the target decoded on its own: the last window's confidence has gone stale."""
        self.has_last_confidence, self.last_mean_confidence = False, 0.0

    def observe(
        self,
        now_ms: float,
        first_guess_confidence: float | None,
        cloud_mode: bool,
        catch_up_ms: float,
        context_tokens: int,
        committed_tokens: int,
    ) -> Observation:
        """Return what the controller is shown; `first_guess_confidence` is None where the draft has no guess."""
        link, report = self.link, self.report
        return Observation(
            acceptance_estimate(self._passed, self._tested),
            self.last_window,
            self.last_accepted,
            self.all_accepted,
            self.has_last_round,
            first_guess_confidence or 0.0,
            first_guess_confidence is not None,
            self.last_mean_confidence,
            self.has_last_confidence,
            cloud_mode,
            self.draft_ms_per_token,
            link.last_ms,
            link.smoothed_ms,
            link.deviation_ms,
            self.uplink_ms_per_token,
            *report,
            now_ms - self.heard_ms,
            catch_up_ms,
            context_tokens,
            committed_tokens,
        )
