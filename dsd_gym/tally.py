"""The figures of a run, kept up while it runs: what `metrics.summarise` tells, without a list of what happened.

    tally = Tally(Histogram)
    simulate(scenario, controller, seed, sink=tally)
    metrics = tally.metrics()

`summarise` counts with the same code; its percentiles are exact, those of a histogram within
`distribution.RELATIVE_ERROR`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from dsd_gym.counts import Counts, Metrics
from dsd_gym.distribution import Distribution, Histogram
from dsd_gym.records import Records, RequestRecord, Round, Status
from dsd_gym.rounds import RoundArray, as_array
from dsd_gym.scoring import Latencies, latencies_of, meets_slos

D = TypeVar("D", bound=Distribution)

PERCENTILES = (50, 95, 99)

BLOCK = 64
"""Rounds that are counted at a time."""


class Sink(Protocol):
    """What takes a run's rounds and requests as they end, so that nobody need keep them."""

    def begin(self, records: Records) -> None:
        """Meet the run before anything has happened: its measured interval, its limits."""

    def add_round(self, round: Round) -> None:
        """Take a round that ended."""

    def add_request(self, request: RequestRecord) -> None:
        """Take a request that finished or was rejected, or one that is in flight when the run is over."""

    def end(self, records: Records) -> None:
        """Take the records of the targets; the run is over."""


class Tally(Generic[D]):
    """A sink that adds up what falls into the measured interval. `new` makes its distributions of latencies."""

    def __init__(self, new: Callable[[], D]) -> None:
        self.counts = Counts()
        self.latencies: dict[str, D] = {name: new() for name in Latencies._fields}
        self._start_ms = self._end_ms = 0.0
        self._run: Records | None = None
        self._uncounted: list[Round] = []

    def begin(self, records: Records) -> None:
        """Learn the interval and the limits."""
        self._run, self._start_ms, self._end_ms = records, records.start_ms, records.end_ms
        self.counts.interval_ms += records.end_ms - records.start_ms
        self.counts.scored_by_class.update({kind.name: 0 for kind in records.classes})

    def add_round(self, round: Round) -> None:
        """Take a round that ended; it is counted with others, at the end of the run at the latest."""
        self._uncounted.append(round)
        if len(self._uncounted) == BLOCK:
            self._count()

    def _count(self) -> None:
        self.add_rounds(as_array(self._uncounted))
        self._uncounted.clear()

    def add_rounds(self, rounds: RoundArray) -> None:
        """Count those rounds that ended in the interval."""
        end_ms = rounds["end_ms"]
        self.counts.add_rounds(rounds[(self._start_ms <= end_ms) & (end_ms < self._end_ms)])

    def add_request(self, request: RequestRecord) -> None:
        """Count a first token that came, and score a request that arrived, in the interval."""
        run, first_ms = self._run, request.first_token_ms
        assert run is not None, "begin comes first"
        self.counts.first_tokens += first_ms is not None and self._start_ms <= first_ms < self._end_ms
        if self._start_ms <= request.arrival_ms < self._end_ms:
            self._score(request, run)

    def _score(self, request: RequestRecord, run: Records) -> None:
        counts = self.counts
        counts.scored += 1
        counts.finished += request.status is Status.FINISHED
        counts.rejected += request.status is Status.REJECTED
        counts.degraded += request.degraded
        name, *limits_ms = run.class_of(request)
        within = meets_slos(request, *limits_ms)
        counts.within_slos += within
        if name:
            counts.scored_by_class[name] += 1
            counts.within_by_class[name] += within
        for name, latency_ms in latencies_of(request, run.cap_ms)._asdict().items():
            if latency_ms is not None:
                self.latencies[name].add(latency_ms)

    def end(self, records: Records) -> None:
        """Count what is left to count, and the targets' work."""
        self._count()
        for target in records.targets:
            self.counts.add_target(target, records.end_ms - records.start_ms)

    def metrics(self) -> Metrics:
        """Return every figure by name; ValueError where no request arrived in the interval."""
        if not self.counts.scored:
            raise ValueError(f"no request arrived between {self._start_ms:g} and {self._end_ms:g} ms")
        return figures(self.counts, self.latencies)


@dataclass
class Totals:
    """What a tally leaves behind; those of runs of the same deployment add up to those of a longer one."""

    counts: Counts = field(default_factory=Counts)
    latencies: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in Latencies._fields})

    def merge(self, other: Totals) -> None:
        """Add another run's."""
        self.counts.merge(other.counts)
        for name, latencies in self.latencies.items():
            latencies.merge(other.latencies[name])


def figures(counts: Counts, latencies: Mapping[str, Distribution]) -> Metrics:
    """Return every figure that sums and distributions tell; `metrics.summarise` says what each means."""
    metrics: Metrics = {}
    for name, distribution in latencies.items():
        metrics[name] = distribution.mean()
        for percentile in PERCENTILES:
            metrics[f"{name}_p{percentile}"] = distribution.percentile(percentile)
    return metrics | counts.production() | counts.promises() | counts.speculation() | counts.requests()
