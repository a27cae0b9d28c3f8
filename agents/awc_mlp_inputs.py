"""The five inputs of the window regressor, from observations and rounds: the same when labelled and when deployed."""

from __future__ import annotations

from dsd_gym.observation import Observation
from dsd_gym.records import Round
from policies.window_inputs import WindowInputs

MEMORY = 0.9
"""Weight that a round's ms and tokens keep after each later round, as those of the acceptance estimate do."""
REPORT_GAIN = 0.2
"""Weight of a new report in the time spent at the target: one alone finds a pass under way, or none."""


class PairHistory:
    """What a pair has been through: its time at the target and, at the edge, its recent ms a token and last window.

    Cloud rounds leave the latter two as they are. The window and its ms a token tell of the draft's speed, which none
    of the inputs names; without this memory, a pair in cloud mode could not tell what the edge would do better.
    """

    __slots__ = ("_at_target_ms", "_elapsed_ms", "_tokens", "decisions", "previous_window")

    def __init__(self) -> None:
        self.decisions = self.previous_window = 0
        self._elapsed_ms = self._tokens = 0.0
        self._at_target_ms: float | None = None

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

    def observed(self, observation: Observation) -> WindowInputs:
        """Take in what the edge sees at a decision and return what the regressor does."""
        spent_ms = observation.queue_wait_ms + observation.iteration_ms
        if self._at_target_ms is None:
            self._at_target_ms = spent_ms
        self._at_target_ms += REPORT_GAIN * (spent_ms - self._at_target_ms)
        return WindowInputs(
            queue_utilisation(observation.one_token_iteration_ms, self._at_target_ms),
            observation.acceptance_estimate,
            observation.smoothed_rtt_ms,
            self._elapsed_ms / self._tokens if self._tokens else 0.0,
            self.previous_window,
        )


def queue_utilisation(service_ms: float, spent_ms: float) -> float:
    """Return the utilisation in [0, 1) of a target whose pass with one token takes `service_ms`: 1 - service / spent.

    `spent_ms` is what requests spend there, queue wait and pass. So an M/M/1 queue's utilisation follows from its
    service time and the time in the system; 0 where the target is idle. The paper names the input and gives no formula.
    """
    return 1.0 - service_ms / spent_ms if spent_ms > service_ms else 0.0
