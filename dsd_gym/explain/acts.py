"""Who acts in a run that a policy watches: the policy itself, a tree, or the policy on features of other moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsd_gym.controller import DecidesMany
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.window_tree import WindowTree

Rows = NDArray[np.float64]
"""Observations in their own units, (n, features)."""
Windows = NDArray[np.int64]
Decisions = tuple[Windows, NDArray[np.float64] | None]
"""Windows, and stop thresholds (negative: none) or None."""


class Act(Protocol):
    """Takes decisions; a plain object, for it is sent to worker processes."""

    def __call__(self, policy: DecidesMany, seen: Rows, random: np.random.Generator) -> Decisions:
        """Return what is done, not necessarily by the policy, on observations."""


@dataclass(frozen=True)
class ByPolicy:
    """The policy acts."""

    def __call__(self, policy: DecidesMany, seen: Rows, random: np.random.Generator) -> Decisions:
        return policy.decide_many(seen)


@dataclass(frozen=True)
class ByTree:
    """A tree acts."""

    tree: WindowTree

    def __call__(self, policy: DecidesMany, seen: Rows, random: np.random.Generator) -> Decisions:
        return self.tree.choose_many(seen), None


@dataclass(frozen=True, eq=False)
class ByPolicyMisled:
    """The policy acts on observations in which some features are those of another decision, drawn anew each time.

    The other one has the same `flags`; without any that has, an observation stays as it is.
    """

    names: tuple[str, ...]
    pool: Rows
    """Other decisions."""
    flags: tuple[str, ...] = ()

    def __call__(self, policy: DecidesMany, seen: Rows, random: np.random.Generator) -> Decisions:
        misled = seen.copy()
        columns, flags = (_columns(names) for names in (self.names, self.flags))
        for pattern in np.unique(seen[:, flags], axis=0):
            others = np.flatnonzero((self.pool[:, flags] == pattern).all(axis=1))
            rows = np.flatnonzero((seen[:, flags] == pattern).all(axis=1))
            if len(others):
                chosen = others[random.integers(len(others), size=len(rows))]
                misled[np.ix_(rows, columns)] = self.pool[np.ix_(chosen, columns)]
        return policy.decide_many(misled)


def _columns(names: tuple[str, ...]) -> Windows:
    return np.array([FEATURE_NAMES.index(name) for name in names], dtype=np.int64)
