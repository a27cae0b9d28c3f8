"""Rules that look at nothing."""

from __future__ import annotations

from dsd_gym.routing.rule import Rule
from dsd_gym.routing.view import TargetView


class Random(Rule):
    """Any target, all equally likely."""

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return a random target."""
        return self.views[int(self.uniform(stream, 0) * len(self.views))]


class RoundRobin(Rule):
    """The targets in turn."""

    _next = 0

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target whose turn it is."""
        self._next += 1
        return self.views[(self._next - 1) % len(self.views)]
