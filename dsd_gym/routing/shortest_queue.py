"""Rules that go by the number of requests at a target, alike targets assumed."""

from __future__ import annotations

from dsd_gym.routing.rule import Rule, in_flight
from dsd_gym.routing.view import TargetView


class JoinShortest(Rule):
    """The target with the fewest requests in flight."""

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target of the shortest queue."""
        return min(self.views, key=in_flight)


class ShorterOfTwo(Rule):
    """The shorter queue of two random targets: the power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001)."""

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the less busy of two random targets."""
        return min(self.two_distinct(stream), key=in_flight)


class JoinShortestReported(Rule):
    """The target with the fewest requests in its last report, whatever was sent there since.

    What a router without books of its own does. Between two reports all requests go to the same target: with old
    reports that is worse than chance (Mitzenmacher, "How Useful Is Old Information?", IEEE TPDS 11(1), 2000).
    """

    reads_reports = True

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target that reported the shortest queue."""
        return min(self.views, key=lambda view: view.report.live_requests)
