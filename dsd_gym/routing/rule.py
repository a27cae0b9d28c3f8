"""What all routing rules share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from dsd_gym import luck
from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.view import TargetView


class Rule(ABC):
    """Chooses among the targets that an edge may use; ties go to the one listed first.

    Draws depend on the request, never on the order of asking.
    """

    reads_reports: ClassVar[bool] = False
    """Whether the rule looks at reports; where none does, none are made."""

    def __init__(self, views: Sequence[TargetView], seed: int, lengths: RequestLengths) -> None:
        self.views, self.seed, self.lengths = views, seed, lengths

    @abstractmethod
    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target of a new request."""

    def uniform(self, stream: int, index: int) -> float:
        """Return number `index` of the request's own luck, in (0, 1)."""
        return luck.uniform(self.seed, luck.ROUTE, stream, index)

    def two_distinct(self, stream: int) -> tuple[TargetView, TargetView]:
        """Return two different targets, all pairs equally likely."""
        count = len(self.views)
        first = int(self.uniform(stream, 0) * count)
        second = int(self.uniform(stream, 1) * (count - 1))
        return self.views[first], self.views[second + (second >= first)]


def in_flight(view: TargetView) -> int:
    """Return the requests that the router has in flight at a target."""
    return view.in_flight


def weighted_in_flight(view: TargetView) -> float:
    """Return the requests that there would be with one more, times the target's ms a token."""
    return (view.in_flight + 1) * view.one_token_iteration_ms
