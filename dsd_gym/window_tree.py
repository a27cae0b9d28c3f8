"""A small decision tree: yes-or-no questions about an observation and what windows are expected to cost by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURE_NAMES, Observation
from dsd_gym.priced_inputs import ASKED, asked, asked_many

NAMES = tuple(ASKED)
LEAF = -1
"""In place of a feature, and of a child that is not there."""


class WindowTree(NamedTuple):
    """The nodes of a tree, a place in each tuple a node; node 0 is the root and children come after their parent.

    An inner node leads to `left` where its feature is at most `threshold` (not scaled), else to `right`; nan is not at
    most anything. A leaf has the feature `LEAF` and a window, 0 for the cloud; what does not apply is 0 or `LEAF`.
    """

    feature: tuple[int, ...]
    """Places in `NAMES`."""
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def asks_estimates(self) -> bool:
        """Return whether any question is about more than a feature."""
        return max(self.feature) >= len(FEATURE_NAMES)

    def choose(self, observation: Observation) -> int:
        """Return the window for an observation."""
        row = asked(observation) if self.asks_estimates else observation
        node = 0
        while (feature := self.feature[node]) != LEAF:
            node = (self.left if row[feature] <= self.threshold[node] else self.right)[node]
        return self.window[node]

    def choose_many(self, seen: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the windows for rows of features in their own units, (n, features)."""
        return np.array(self.window, np.int64)[self.leaves_of(seen)]

    def leaves_of(self, seen: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the nodes that rows of features end in."""
        rows = asked_many(seen) if self.asks_estimates else seen
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        left, right = np.array(self.left), np.array(self.right)
        node = np.zeros(len(rows), np.int64)
        while len(inner := np.flatnonzero(feature[node] != LEAF)):
            at = node[inner]
            goes_left = rows[inner, feature[at]] <= threshold[at]
            node[inner] = np.where(goes_left, left[at], right[at])
        return node

    @property
    def leaves(self) -> int:
        """Return how many leaves there are."""
        return self.feature.count(LEAF)

    @property
    def depth(self) -> int:
        """Return how many questions the longest way down asks."""
        return max(depth for _, depth in self._walk())

    def _walk(self, node: int = 0, depth: int = 0) -> Iterator[tuple[int, int]]:
        """Yield (leaf, depth) from left to right."""
        if self.feature[node] == LEAF:
            yield node, depth
        else:
            yield from self._walk(self.left[node], depth + 1)
            yield from self._walk(self.right[node], depth + 1)


def as_lines(tree: WindowTree, shares: Sequence[float] | None = None) -> list[str]:
    """Return the tree as text; `shares` are the shares of decisions by node, shown at the leaves."""
    return list(_lines(tree, shares, 0, ""))


def _lines(tree: WindowTree, shares: Sequence[float] | None, node: int, indent: str) -> Iterator[str]:
    if tree.feature[node] == LEAF:
        share = "" if shares is None else f"  ({100.0 * shares[node]:.1f} % of decisions)"
        yield f"{indent}{_answer(tree.window[node])}{share}"
        return
    name, threshold = NAMES[tree.feature[node]], tree.threshold[node]
    for child, holds in ((tree.left[node], True), (tree.right[node], False)):
        yield f"{indent}{_question(name, threshold, holds)}"
        yield from _lines(tree, shares, child, f"{indent}|   ")


def _question(name: str, threshold: float, holds: bool) -> str:
    unit = ASKED[name].unit
    if unit == "flag":
        return f"{'not ' if holds else ''}{name}"
    return f"{name} {'<=' if holds else '> '} {threshold:.6g}{'' if unit == '1' else f' {unit}'}"


def _answer(window: int) -> str:
    return f"window {window}" if window else "cloud"
