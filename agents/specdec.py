"""Confidence stop: draft on while the whole window is still likely to be accepted."""

from __future__ import annotations

from agents.base import Controller
from agents.pricing import best_window
from dsd_gym.observation import Observation
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
        self._max_window, self._cloud_margin = max_window, cloud_margin
        self._draft = Decision(max_window, stop_threshold)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the longest window with the threshold at which drafting ends, or 0 where the cloud is cheaper."""
        margin = self._cloud_margin
        if margin is not None and best_window(observation, self._max_window, 0.0, margin) == 0:
            return Decision(0)
        return self._draft
