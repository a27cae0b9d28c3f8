"""What the tested positions say of those that nobody tested.

A position is tested if the drafts before it in its window were all accepted. Whether it is tested therefore depends
on flags before it, which were seen, and on the controller, which saw no more than those: never on its own flag. The
untested positions are *missing at random* (Rubin, Biometrika 63, 1976), and the share accepted among the positions
tested after a run of so many accepted ones is an unbiased estimate for all that come after such a run (a hazard, as
Kaplan and Meier's for censored lifetimes, JASA 53, 1958). The plain mean of tested flags is not the mean of all
positions: the bonus position behind a window accepted whole, where drafts fare better, is never tested.

So the log-odds of acceptance at an untested position are a sum: those after the run before it, what sets its request
apart, and what its confidence adds where one was recorded. A request's part is shrunk to 0, for few tests say little;
and runs are fitted beside it, for what is tested after a long run is mostly of requests that are easy everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dsd_gym.luck import FloatArray
from dsd_gym.observation import MAX_WINDOW
from dsd_gym.recorded.recording import RecordedRequest

_PRIOR_TESTS = 20.0
"""Tests for which the next shorter run, or the mean, counts in an estimate."""
_TESTS_PER_BIN = 100
_MOST_BINS = 10


@dataclass(frozen=True)
class Hazard:
    """Log-odds of acceptance, fitted to tested positions.

    Attributes:
        mean: of all tested positions.
        by_run: given the accepted positions since the last rejected one; the last entry holds for all longer runs.
        edges, by_confidence: what a confidence adds, in bins of about equally many tests.
        prior_tests: tests for which the mean of all counts in that of one request.
    """

    mean: float
    prior_tests: float
    by_run: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    by_confidence: tuple[float, ...] = ()

    def request(self, request: RecordedRequest) -> float:
        """Return the request's own log-odds relative to all, shrunk to 0."""
        tested = request.tested
        accepted = sum(tested) + self.prior_tests * _sigmoid(self.mean)
        return _logit(accepted / (len(tested) + self.prior_tests)) - self.mean

    def probability(self, request: float, run: int, confidence: float | None) -> float:
        """Return the acceptance probability of an untested position of a request with such log-odds of its own."""
        log_odds = request + self.by_run[min(run, len(self.by_run) - 1)]
        if confidence is not None and self.by_confidence:
            log_odds += self.by_confidence[bisect(self.edges, confidence)]
        return _sigmoid(log_odds)


class _Test(NamedTuple):
    accepted: bool
    request: float
    """The request's own log-odds."""
    run: int
    """Accepted positions since the last rejected one; -1 where one between them was not tested."""
    depth: int
    """Accepted positions directly before, tested ones alone: the run, or the end of a run of unknown length."""
    confidence: float
    """nan where none was recorded."""


def fit_hazard(requests: Sequence[RecordedRequest]) -> Hazard:
    """Return the hazard of a recording with at least one tested position."""
    flags = [flag for request in requests for flag in request.tested]
    mean = (sum(flags) + 0.5) / (len(flags) + 1.0)
    base = Hazard(_logit(mean), _prior_tests(requests, mean))
    tests = np.array([test for request in requests for test in _tests(request, base.request(request))])
    accepted, own, run, depth, confidence = tests.T
    by_run, longest = [base.mean], int(run.max())
    for length in range(longest + 1):
        by_run.append(_fitted(accepted[run == length], own[run == length], by_run[-1]))
    by_run.append(_fitted(accepted[depth >= longest], own[depth >= longest], by_run[-1]))
    before = np.where(run >= 0, run, np.minimum(depth, longest + 1)).astype(int)
    expected, known = own + np.array(by_run[1:])[before], ~np.isnan(confidence)
    bins = _by_confidence(accepted[known], expected[known], confidence[known])
    return Hazard(base.mean, base.prior_tests, tuple(by_run[1:]), *bins)


def _tests(request: RecordedRequest, own: float) -> Iterator[_Test]:
    run, depth = -1, 0
    for flag, confidence in zip(request.accepted, request.confidence or [None] * len(request.accepted), strict=True):
        if flag is not None:
            yield _Test(flag, own, min(run, MAX_WINDOW), depth, math.nan if confidence is None else confidence)
        if flag:
            run, depth = run + 1 if run >= 0 else -1, depth + 1
        else:
            run, depth = -1 if flag is None else 0, 0


def _by_confidence(
    accepted: FloatArray, expected: FloatArray, confidence: FloatArray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not len(accepted):
        return (), ()
    bins = max(1, min(_MOST_BINS, len(accepted) // _TESTS_PER_BIN))
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    cell = np.searchsorted(edges, confidence, side="right")  # as `bisect`
    fitted = tuple(_fitted(accepted[cell == one], expected[cell == one], 0.0) for one in range(bins))
    return tuple(edges.tolist()), fitted


def _fitted(accepted: FloatArray, given: FloatArray, prior: float) -> float:
    """Return the log-odds to add to those `given` that make as many accepted expected as there were.

    `prior` counts as some tests more.
    """
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2.0
        expected = (1.0 / (1.0 + np.exp(-(middle + given)))).sum() + _PRIOR_TESTS * _sigmoid(middle)
        if expected < accepted.sum() + _PRIOR_TESTS * _sigmoid(prior):
            low = middle
        else:
            high = middle
    return middle


def _prior_tests(requests: Sequence[RecordedRequest], mean: float) -> float:
    """Return 1/rho - 1, rho the share of the flags' variance that lies between requests (a moment estimate)."""
    flags = [request.tested for request in requests if request.tested]
    accepted, tested = np.array([(sum(one), len(one)) for one in flags], dtype=float).T
    others = max(len(flags) - 1, 1)
    squares = (tested * (accepted / tested - mean) ** 2).sum() / others
    size = (tested.sum() - (tested**2).sum() / tested.sum()) / others
    within = mean * (1.0 - mean)
    rho = (squares - within) / (size * within) if size > 0.0 else 0.0
    return float(1.0 / min(max(rho, 0.001), 0.999) - 1.0)


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))
