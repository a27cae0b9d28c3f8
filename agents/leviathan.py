"""The selfish optimum: the window of least expected ms a token for the request itself."""

from __future__ import annotations

from agents.base import Controller
from agents.pricing import best_window
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class Leviathan(Controller):
    """Argmin of (k t_d + RTT + t_v) / ((1 - a^(k+1)) / (1 - a)), after Leviathan et al. (2211.17192), made RTT-aware.

    It knows nothing of other requests: fine at low load. Cloud decoding is one of its choices.
    """

    def __init__(self, max_window: int, cloud_margin: float = 0.0) -> None:
        self._max_window, self._cloud_margin = max_window, cloud_margin

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window with the least expected own latency."""
        acceptance = observation.acceptance_estimate
        return Decision(best_window(observation, self._max_window, 0.0, acceptance, self._cloud_margin))
