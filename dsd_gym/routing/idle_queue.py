"""Join the idle queue."""

from __future__ import annotations

from collections.abc import Sequence

from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.rule import Rule
from dsd_gym.routing.view import TargetView


class JoinIdleQueue(Rule):
    """Idle targets queue up at the router and are taken in that order; with none idle, a random one.

    Lu, Xie, Kliot, Geller, Larus and Greenberg, "Join-Idle-Queue: A Novel Load Balancing Algorithm for Dynamically
    Scalable Web Services", Performance Evaluation 68(11), 2011, with one dispatcher. Targets that fall idle between two
    arrivals queue up in the order in which they are listed.
    """

    def __init__(self, views: Sequence[TargetView], seed: int, lengths: RequestLengths) -> None:
        super().__init__(views, seed, lengths)
        self._idle: dict[int, TargetView] = {}

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target that has been idle longest, or any."""
        for index, view in enumerate(self.views):
            if view.in_flight:  # a target that other edges reach too may have been taken by them
                self._idle.pop(index, None)
            else:
                self._idle.setdefault(index, view)
        if self._idle:
            return self._idle.pop(next(iter(self._idle)))
        return self.views[int(self.uniform(stream, 0) * len(self.views))]
