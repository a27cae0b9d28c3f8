"""How many output tokens a request may be expected to want still: what a semi-clairvoyant router knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dsd_gym.luck import FloatArray
from dsd_gym.scenario import Lengths, Scenario
from dsd_gym.scenario.mix import class_lengths, mean_lengths
from dsd_gym.theory import log_normal_tail
from dsd_gym.traces import TraceRow, read_trace


class RequestLengths:
    """Output lengths by request class, as distributions, and the mean prompt: no router knows a request's own output.

    Log-normal lengths have their own tail, recorded ones (class lengths do not apply to those) the trace's.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario

    def expected_remaining(self, request_class: int, committed: int) -> float:
        """Return the mean of output tokens still to come of a request that has had `committed` and goes on."""
        means = self._remaining[request_class if request_class < len(self._remaining) else 0]
        return float(means[min(committed, len(means) - 1)])

    @cached_property
    def mean_prompt(self) -> float:
        """The mean of prompt tokens over all requests."""
        if self._scenario.workload.kind != "trace":
            return mean_lengths(self._scenario)[1]
        rows = self._rows()
        return sum(row.prompt_tokens for row in rows) / len(rows)

    @cached_property
    def _remaining(self) -> list[FloatArray]:
        """Mean residual lengths: an array for each class, indexed by tokens committed."""
        scenario = self._scenario
        if scenario.workload.kind == "trace":
            cut = np.clip([row.output_tokens for row in self._rows()], 1, scenario.lengths.max_output)
            return [mean_residual(_empirical_tail(cut))]
        kinds = range(max(1, len(scenario.classes)))
        return [mean_residual(_tail(class_lengths(scenario, kind))) for kind in kinds]

    def _rows(self) -> Sequence[TraceRow]:
        return read_trace(self._scenario.workload.trace or "", self._scenario.workload.trace_format)


def mean_residual(tail: FloatArray) -> FloatArray:
    """Return E[X - c | X > c] for c = 0, 1, ... from `tail[c]` = P(X > c); at least the one token that must come.

    The sum over j >= c of P(X > j), divided by P(X > c).
    """
    left = np.cumsum(tail[::-1])[::-1]
    return np.maximum(1.0, np.divide(left, tail, out=np.ones_like(tail), where=tail > 0.0))


def _tail(lengths: Lengths) -> FloatArray:
    """Return P(X > c) for c = 0 .. max_output - 1 of a rounded and clipped log-normal."""
    points = np.arange(lengths.max_output) + 0.5  # a length is rounded: more than c tokens is more than c + 1/2
    tail = np.array([log_normal_tail(lengths.output_mean, lengths.output_median, float(x)) for x in points])
    tail[0] = 1.0
    return tail


def _empirical_tail(lengths: Sequence[int] | FloatArray) -> FloatArray:
    ordered = np.sort(lengths)
    above = len(ordered) - np.searchsorted(ordered, np.arange(ordered[-1]), side="right")
    return above / len(ordered)
