"""The selfish optimum: the window of least expected ms a token for the request itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from agents.rows import windows_of
from dsd_gym.observation import Observation
from dsd_gym.pricing import CONFIDENCE_WEIGHT, best_window
from dsd_gym.records import Decision


class Leviathan(Controller):
    """Argmin of (k t_d + RTT + t_v) / ((1 - a^(k+1)) / (1 - a)), after Leviathan et al. (2211.17192), made RTT-aware.

    The first guess's own chance and the wait for a busy target are priced too (`dsd_gym.pricing`). It knows nothing of
    what it costs other requests: fine at low load. Cloud decoding is one of its choices.
    The constants are chosen by `python -m agents.tune leviathan`.
    """

    def __init__(
        self, max_window: int, cloud_margin: float = 0.2, confidence_weight: float = CONFIDENCE_WEIGHT
    ) -> None:
        self._constants = max_window, 0.0, cloud_margin, confidence_weight

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window with the least expected own latency."""
        return Decision(best_window(observation, *self._constants))

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        """Return the windows for rows of features in their own units."""
        return windows_of(best_window, seen, *self._constants), None
