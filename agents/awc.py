"""Adaptive Window Control: a prediction for each question, clamped, smoothed and rounded, and a switch to the cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from agents.pairs import Pairs
from agents.rows import windows_of
from agents.stabilisation import Stabilised
from dsd_gym.observation import Observation
from dsd_gym.pricing import best_window
from dsd_gym.records import Decision

PRICE, CLOUD_MARGIN = 2.0, 0.2
"""Of the delay put on others, and by how much (a fraction) the cloud must win; chosen by `agents.tune`."""


class Awc(Controller):
    """The stabilised controller of DSD (2511.21669) around an analytic predictor that prices the externality.

    A prediction of 0 stands for cloud decoding. The state is kept by draft-target pair, beyond a request's end, as in
    the paper; kept by request instead, it does no better (latencies 0.1 % higher over 24 training deployments, 0.4 %
    over the held-out ones). The constants are chosen by `python -m agents.tune awc`.
    """

    def __init__(self, max_window: int, price: float = PRICE, cloud_margin: float = CLOUD_MARGIN) -> None:
        self._max_window, self._price, self._cloud_margin = max_window, price, cloud_margin
        self._pairs = Pairs(lambda: Stabilised(max_window))

    def begin(self, stream: int, device: int, target: int) -> None:
        """Find the stream's pair."""
        self._pairs.begin(stream, device, target)

    def predict(self, observation: Observation) -> int:
        """Return the window of least expected cost to everybody, 0 where the cloud is cheaper."""
        return best_window(observation, self._max_window, self._price, self._cloud_margin)

    def predict_many(self, seen: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the predictions for rows of features in their own units."""
        return windows_of(best_window, seen, self._max_window, self._price, self._cloud_margin)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the smoothed window, or 0 in cloud mode."""
        return self.settle(self.predict(observation), stream)

    def settle(self, predicted: int, stream: int) -> Decision:
        """Return what is decided on a prediction: the smoothed window, or 0 in cloud mode."""
        return Decision(self._pairs.of(stream).window(predicted))

    def forget(self, stream: int) -> None:
        """Drop a stream that ended."""
        self._pairs.forget(stream)
