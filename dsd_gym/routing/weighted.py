"""Rules that weigh queues by the speed of their targets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.rule import Rule, weighted_in_flight
from dsd_gym.routing.view import TargetView


class LeastWork(Rule):
    """The target where as many requests as it would then hold take the least ms for a token each."""

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the target of the least weighted queue."""
        return min(self.views, key=weighted_in_flight)


class WeightedShorterOfTwo(Rule):
    """Two targets drawn by their speed, and of them the one with the lesser weighted queue.

    Equally likely draws would offer the slow targets more than they can serve (Mukhopadhyay and Mazumdar, "Analysis of
    Randomized Join-the-Shortest-Queue (JSQ) Schemes in Large Heterogeneous Processor-Sharing Systems", IEEE TCNS
    3(2), 2016).
    """

    def __init__(self, views: Sequence[TargetView], seed: int, lengths: RequestLengths) -> None:
        super().__init__(views, seed, lengths)
        self._speeds = [1.0 / view.one_token_iteration_ms for view in views]

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the better of two targets drawn without replacement."""
        first = _drawn(self._speeds, self.uniform(stream, 0))
        rest = [speed if index != first else 0.0 for index, speed in enumerate(self._speeds)]
        second = _drawn(rest, self.uniform(stream, 1))
        return min(self.views[first], self.views[second], key=weighted_in_flight)


def _drawn(weights: Sequence[float], uniform: float) -> int:
    """Return an index drawn in proportion to the weights."""
    sums = list(accumulate(weights))
    return next(index for index, up_to in enumerate(sums) if uniform * sums[-1] < up_to)
