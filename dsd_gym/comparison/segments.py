"""A long measurement as segments: each a run of its own, warmed up, with its own luck; their totals add up.

A simulation cannot be stopped on one day and taken up on the next, so what is kept is finished segments. An hour of
12 segments is 12 independent runs of five minutes, each measured after its own warm-up: the same hour for figures
that are settled by the end of the warm-up, but nothing that builds up for longer than a segment is in it. One
segment is an unbroken run.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from dsd_gym.comparison.cells import MakeController
from dsd_gym.config import ConfigError
from dsd_gym.distribution import Histogram
from dsd_gym.records import Round
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate
from dsd_gym.tally import Tally, Totals

STEADY = ("poisson", "bursty", "closed")
"""Kinds of load that are the same in every segment."""


class Segment(NamedTuple):
    """A piece of a long run. `make_controller` is imported by name in another process."""

    scenario: Scenario
    controller: str
    seed: int
    make_controller: MakeController


@dataclass(frozen=True)
class SegmentResult:
    """What a segment measured, and what it took. Work is counted in warm-up and drain too, as time and memory are."""

    totals: Totals
    verify_jobs: int
    """Windows that targets verified."""
    decisions: int
    cpu_s: float
    peak_memory_mb: float
    """Largest resident size of the process that ran it, in 10^6 bytes."""


class _Workload(Tally[Histogram]):
    """A tally that counts the work of the whole run besides."""

    def __init__(self) -> None:
        super().__init__(Histogram)
        self.verify_jobs = self.decisions = 0

    def add_round(self, round: Round) -> None:
        super().add_round(round)
        self.decisions += 1
        self.verify_jobs += round.drafted > 0


def split(
    scenario: Scenario, controller: str, make_controller: MakeController, fraction: float = 1.0, count: int = 1
) -> list[Segment]:
    """Return `count` segments that measure `fraction` of the scenario's interval together.

    Raises:
        ConfigError: nothing to measure, or more than one segment of a load that changes along the run.
    """
    if not 0.0 < fraction <= 1.0 or count < 1:
        raise ConfigError(f"a fraction lies between 0 and 1, and segments are 1 or more, not {fraction:g} and {count}")
    if count > 1 and scenario.workload.kind not in STEADY:
        raise ConfigError(f"{scenario.name}: {scenario.workload.kind} load cannot be cut: 1 segment, or {STEADY[0]}")
    measured_ms = (scenario.horizon_ms - scenario.warm_up_ms) * fraction / count
    piece = replace(scenario, horizon_ms=scenario.warm_up_ms + measured_ms)
    return [Segment(piece, controller, scenario.seed + index, make_controller) for index in range(count)]


def run_segment(segment: Segment) -> SegmentResult:
    """Simulate a segment in bounded memory."""
    controller = segment.make_controller(segment.controller, segment.scenario.max_window)
    work, start_s = _Workload(), time.process_time()
    with _few_collections():
        simulate(segment.scenario, controller, segment.seed, sink=work)
    return SegmentResult(
        Totals(work.counts, work.latencies),
        work.verify_jobs,
        work.decisions,
        time.process_time() - start_s,
        peak_memory_mb(),
    )


@contextmanager
def _few_collections() -> Iterator[None]:
    """Look for cycles of garbage seldom: almost all that a run leaves behind goes by reference counts."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
