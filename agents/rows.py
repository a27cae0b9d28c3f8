"""Rules applied to many observations at once: the rule's own Python function, compiled and looped over rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rule = Callable[..., int]
"""A plain function of an `Observation` and constants that returns a window; see `dsd_gym.vector.rules`."""


def windows_of(rule: Rule, seen: NDArray[np.float64], *constants: float) -> NDArray[np.int64]:
    """Return `rule(observation, *constants)` for each row of features in their own units, (n, features)."""
    from dsd_gym.vector.rules import over_rows  # numba: nobody who decides for one request at a time needs it

    windows = np.empty(len(seen), np.int64)
    over_rows(rule)(seen, windows, *constants)
    return windows
