"""AWC's stabilisation: what stands between a prediction and a window, whoever predicts."""

from __future__ import annotations

SMOOTHING = 0.4
"""Weight of a new prediction (2511.21669)."""


class Stabilised:
    """One pair's window: predictions clamped to [1, max_window], smoothed and rounded, and a switch to the cloud.

    A prediction that rounds to 1 or less twice running switches to cloud mode. The paper leaves the way back open: here
    two that do not switch back, and the first prediction of all sets the mode. Smoothing begins from `first_window`, or
    without one from the first prediction.
    """

    __slots__ = ("_against", "_cloud", "_max_window", "_window")

    def __init__(self, max_window: int, first_window: int = 0) -> None:
        self._max_window = max_window
        self._window = float(first_window)
        self._cloud: bool | None = None
        self._against = 0
        """Predictions running that speak against the present mode."""

    def window(self, prediction: float) -> int:
        """Take in a prediction and return the window to use, 0 in cloud mode."""
        clamped = min(max(prediction, 1.0), self._max_window)
        for_cloud = round(clamped) <= 1
        if self._cloud is None:
            self._cloud = for_cloud
            self._window = self._window or clamped
        self._window += SMOOTHING * (clamped - self._window)
        self._against = self._against + 1 if for_cloud != self._cloud else 0
        if self._against >= 2:
            self._cloud, self._against = for_cloud, 0
        return 0 if self._cloud else round(self._window)
