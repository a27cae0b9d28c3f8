"""The five inputs of the window regressor, from observations and rounds: the same when labelled and when deployed."""

from __future__ import annotations

from dsd_gym.observation import Observation
from dsd_gym.records import Round
from policies.window_inputs import WindowInputs

MEMORY = 0.8
"""Weight that a round's ms and tokens keep after each later round: TPOT is that of about the last five."""


class PairHistory:
    """What a pair has been through at the edge: its recent ms a token and its last window.

    Cloud rounds leave both as they are. The window and its ms a token tell of the draft's speed, which none of the
    inputs names; without this memory, a pair in cloud mode could not tell what the edge would do better.
    """

    __slots__ = ("_elapsed_ms", "_tokens", "decisions", "previous_window")

    def __init__(self) -> None:
        self.decisions = self.previous_window = 0
        self._elapsed_ms = self._tokens = 0.0

    def decided(self, window: int) -> None:
        """Take in the window decided on, 0 for cloud mode."""
        self.decisions += 1
        if window:
            self.previous_window = window

    def record(self, round: Round) -> None:
        """Take in a round that ended."""
        if not round.window:
            return
        self._elapsed_ms = MEMORY * self._elapsed_ms + round.elapsed_ms
        self._tokens = MEMORY * self._tokens + round.committed

    def inputs(self, observation: Observation) -> WindowInputs:
        """Return what the regressor sees."""
        return WindowInputs(
            queue_utilisation(observation),
            observation.acceptance_estimate,
            observation.smoothed_rtt_ms,
            self._elapsed_ms / self._tokens if self._tokens else 0.0,
            self.previous_window,
        )


def queue_utilisation(observation: Observation) -> float:
    """Return the utilisation in [0, 1) that the target's last report stands for: 1 - s / (w + t).

    s is the pass with one token, w the reported queue wait and t the reported pass. It is how an M/M/1 queue's
    utilisation follows from its service time s and the time w + t that a request spends there; 0 where the target is
    idle. The paper names the input and gives no formula.
    """
    spent_ms = observation.queue_wait_ms + observation.iteration_ms
    if spent_ms <= observation.one_token_iteration_ms:
        return 0.0
    return 1.0 - observation.one_token_iteration_ms / spent_ms
