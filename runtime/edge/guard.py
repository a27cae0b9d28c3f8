"""A controller that cannot do harm: whatever it does wrong, a fallback window serves."""

from __future__ import annotations

import logging
import operator

from dsd_gym.controller import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round

_log = logging.getLogger(__name__)


class Guard:
    """Pass on what `controller` decides, and the fallback where it raises or answers what is no decision."""

    def __init__(self, controller: Controller, max_window: int, fallback_window: int) -> None:
        if not 0 <= fallback_window <= max_window:
            raise ValueError(f"fallback_window {fallback_window} is outside 0..{max_window}")
        self._controller, self._max_window = controller, max_window
        self._fallback = Decision(fallback_window)
        self._warned: set[str] = set()
        self.fallbacks = 0
        """Decisions that the fallback window took."""

    def begin(self, stream: int, device: int, target: int) -> None:
        """Tell the controller of a stream that begins."""
        try:
            self._controller.begin(stream, device, target)
        except Exception as error:
            self._warn("begin", error)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return a window in 0..max_window."""
        try:
            return self._checked(self._controller.decide(observation, stream))
        except Exception as error:
            self.fallbacks += 1
            self._warn("decide", error, f"; window {self._fallback.window} serves instead")
            return self._fallback

    def record(self, round: Round) -> None:
        """Tell the controller of a round that ended."""
        try:
            self._controller.record(round)
        except Exception as error:
            self._warn("record", error)

    def forget(self, stream: int) -> None:
        """Tell it of a stream that ended."""
        try:
            self._controller.forget(stream)
        except Exception as error:
            self._warn("forget", error)

    def _checked(self, decision: object) -> Decision:
        if not isinstance(decision, Decision):
            raise TypeError(f"{decision!r} is not a Decision")
        window, threshold = operator.index(decision.window), decision.stop_threshold
        if not 0 <= window <= self._max_window:
            raise ValueError(f"window {window} is outside 0..{self._max_window}")
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise ValueError(f"stop_threshold {threshold} is outside 0..1")
        return Decision(window, threshold)

    def _warn(self, method: str, error: Exception, remedy: str = "") -> None:
        """Log a failure, each kind once."""
        kind = f"{method}: {type(error).__name__}"
        if kind not in self._warned:
            self._warned.add(kind)
            name = type(self._controller).__name__
            _log.warning("controller %s fails in %s: %s%s (said once)", name, kind, error, remedy)
