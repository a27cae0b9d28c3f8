"""Least expected remaining work."""

from __future__ import annotations

from dsd_gym.routing.rule import Rule
from dsd_gym.routing.view import TargetView


class LeastRemainingWork(Rule):
    """The target where the tokens still to be made, the new request's included, take the least ms.

    Least work left (Harchol-Balter, Crovella and Murta, "On Choosing a Task Assignment Policy for a Distributed Server
    System", JPDC 59(2), 1999) for a router that knows of each request how many tokens it has had, and of lengths their
    distribution alone: semi-clairvoyant. Requests of one target share its passes, so that the sum ranks targets but is
    no forecast.
    """

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target of the least expected work."""
        own = self.lengths.expected_remaining(request_class, 0)
        return min(self.views, key=lambda view: (self._tokens(view) + own) * view.one_token_iteration_ms)

    def _tokens(self, view: TargetView) -> float:
        expected = self.lengths.expected_remaining
        return sum(
            expected(request.arrival.request_class, request.verified)
            for request in view.requests.values()
            if request.verified < request.arrival.output_tokens  # the last token has not passed the router
        )
