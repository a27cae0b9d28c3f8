"""Confidence stop: draft on while the whole window is still likely to be accepted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from agents.rows import windows_of
from dsd_gym.observation import Observation
from dsd_gym.pricing import CONFIDENCE_WEIGHT, best_window
from dsd_gym.records import Decision


class SpecDec(Controller):
    """Stop drafting once 1 - (product of the tokens' chances) exceeds h: SpecDec++ (2405.19715), after its theorem 1.

    SpecDec++ trains an acceptance head and takes h = 0.3, so a threshold of 0.7 on the product. Here the draft's raw
    confidence stands for the head; it is not calibrated, so that `stop_threshold` is tuned on it.
    With a `cloud_margin` the rule may also choose cloud decoding, by `leviathan`'s comparison: the paper has no such
    choice (its draft sits beside the target), but over a slow link a rival without it would be no rival. None turns
    that off. The constants are chosen by `python -m agents.tune specdec`; `specdec:published` has the paper's.
    """

    def __init__(
        self,
        max_window: int,
        stop_threshold: float = 0.3,
        cloud_margin: float | None = 0.1,
    ) -> None:
        self._constants = None if cloud_margin is None else (max_window, 0.0, cloud_margin, CONFIDENCE_WEIGHT)
        self._draft = Decision(max_window, stop_threshold)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the longest window with the threshold at which drafting ends, or 0 where the cloud is cheaper."""
        if self._constants is not None and best_window(observation, *self._constants) == 0:
            return Decision(0)
        return self._draft

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return windows, and thresholds (-1: none), for rows of features in their own units."""
        at_edge = np.ones(len(seen), np.bool_)
        if self._constants is not None:
            at_edge = windows_of(best_window, seen, *self._constants) > 0
        return np.where(at_edge, self._draft.window, 0), np.where(at_edge, self._draft.stop_threshold or 0.0, -1.0)
