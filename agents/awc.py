"""Adaptive Window Control: a prediction for each question, clamped, smoothed and rounded, and a switch to the cloud."""

from __future__ import annotations

from agents.base import Controller
from agents.pricing import best_window
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class _Pair:
    """What AWC keeps of one stream."""

    __slots__ = ("cloud", "same_way", "window")

    def __init__(self, window: float, cloud: bool) -> None:
        self.window, self.cloud, self.same_way = window, cloud, 0


class Awc(Controller):
    """The stabilised controller of DSD (2511.21669) around an analytic predictor that prices the externality.

    A prediction is clamped to [1, max_window], smoothed with weight 0.4 for each stream and rounded; two predictions
    of at most 1 in a row switch to cloud decoding, and two above 1 switch back (the paper leaves the way back open).
    The paper keeps this state by draft-target pair, beyond a request's end; here a stream begins in the mode of its
    first prediction.
    The constants are chosen by `python -m agents.tune awc`.
    """

    SMOOTHING = 0.4

    def __init__(self, max_window: int, price: float = 2.0, cloud_margin: float = 0.2) -> None:
        self._max_window, self._price, self._cloud_margin = max_window, price, cloud_margin
        self._pairs: dict[int, _Pair] = {}

    def predict(self, observation: Observation) -> int:
        """Return the window of least expected cost to everybody, 0 where the cloud is cheaper."""
        return best_window(observation, self._max_window, self._price, self._cloud_margin)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the smoothed window, or 0 in cloud mode."""
        prediction = self.predict(observation)
        clamped = min(max(prediction, 1), self._max_window)
        pair = self._pairs.get(stream)
        if pair is None:
            pair = self._pairs[stream] = _Pair(float(clamped), prediction <= 1)
        pair.window += self.SMOOTHING * (clamped - pair.window)
        pair.same_way = pair.same_way + 1 if (prediction <= 1) != pair.cloud else 0
        if pair.same_way >= 2:
            pair.cloud, pair.same_way = not pair.cloud, 0
        return Decision(0 if pair.cloud else round(pair.window))

    def forget(self, stream: int) -> None:
        """Drop a stream's smoothing."""
        self._pairs.pop(stream, None)
