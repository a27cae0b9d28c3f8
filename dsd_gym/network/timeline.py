"""A step function of time whose steps are drawn by key: the same in whatever order it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")

KEPT_STEPS = 64
"""Steps that are remembered at least, so that an hour of a thousand links stays small."""


class Timeline(Generic[S]):
    """States that follow each other from 0 ms on, drawn as time comes to them.

    `draw(index, last)` returns the state and the ms of step `index`. Time moves on, but for questions a little ahead or
    back: only recent steps are kept, and a question about an earlier time draws all of them again.
    """

    def __init__(self, draw: Callable[[int, S | None], tuple[S, float]]) -> None:
        self._draw = draw
        self._begin()
        self._found = self._find(0.0)

    def at(self, now_ms: float) -> tuple[S, float, float]:
        """Return the state at `now_ms`, and the ms at which it begins and ends."""
        if not self._found[1] <= now_ms < self._found[2]:
            self._found = self._find(now_ms)
        return self._found

    def _find(self, now_ms: float) -> tuple[S, float, float]:
        if now_ms < self._bounds_ms[0]:
            self._begin()
        while self._bounds_ms[-1] <= now_ms:
            self._draw_next()
        step = bisect_right(self._bounds_ms, now_ms)
        return self._states[step - 1], self._bounds_ms[step - 1], self._bounds_ms[step]

    def _begin(self) -> None:
        self._next = 0
        self._states: list[S] = []
        self._bounds_ms = [0.0]

    def _draw_next(self) -> None:
        state, length_ms = self._draw(self._next, self._states[-1] if self._states else None)
        self._next += 1
        self._states.append(state)
        self._bounds_ms.append(self._bounds_ms[-1] + length_ms)
        if len(self._states) > 2 * KEPT_STEPS:
            del self._states[:KEPT_STEPS], self._bounds_ms[:KEPT_STEPS]
