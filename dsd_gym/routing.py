"""Which target a request goes to, for its whole life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsd_gym import luck

if TYPE_CHECKING:
    from dsd_gym.target import TargetServer


class Router:
    """Chooses among targets by the number of live requests each holds; ties go to the lowest index."""

    def __init__(self, rule: str, targets: Sequence[TargetServer], seed: int) -> None:
        self._targets, self._seed, self._next = targets, seed, 0
        self._choose = {
            "random": self._random,
            "round_robin": self._round_robin,
            "jsq": self._join_shortest,
            "jsq2": self._shorter_of_two,
            "weighted": self._least_work,
        }[rule]

    def route(self, stream: int) -> TargetServer:
        """Return the target of request `stream`; the draw depends on the request, not on the order of asking."""
        return self._choose(stream) if len(self._targets) > 1 else self._targets[0]

    def _random(self, stream: int) -> TargetServer:
        return self._targets[int(luck.uniform(self._seed, luck.ROUTE, stream, 0) * len(self._targets))]

    def _round_robin(self, stream: int) -> TargetServer:
        self._next += 1
        return self._targets[(self._next - 1) % len(self._targets)]

    def _join_shortest(self, stream: int) -> TargetServer:
        return min(self._targets, key=lambda target: target.live)

    def _shorter_of_two(self, stream: int) -> TargetServer:
        """Power of two choices (Mitzenmacher 2001): two distinct targets at random, the shorter of them."""
        count = len(self._targets)
        first = int(luck.uniform(self._seed, luck.ROUTE, stream, 0) * count)
        second = int(luck.uniform(self._seed, luck.ROUTE, stream, 1) * (count - 1))
        second += second >= first
        return min(self._targets[first], self._targets[second], key=lambda target: target.live)

    def _least_work(self, stream: int) -> TargetServer:
        """Live requests weighted by the target's speed: the one where they would be done first."""
        return min(self._targets, key=lambda target: (target.live + 1) * target.one_token_iteration_ms)
