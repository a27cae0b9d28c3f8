"""Figures kept up while a run goes on equal those of its records, in memory that does not grow with the run."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import make_controller
from dsd_gym.config import build, to_dict
from dsd_gym.distribution import RELATIVE_ERROR, Exact, Histogram
from dsd_gym.metrics import Metrics, summarise
from dsd_gym.records import Records, RequestRecord, Round
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate
from dsd_gym.tally import Sink, Tally, Totals, figures

CLOSED = Scenario(
    edges=(EdgeClass("l40s/Llama-3.2-1B", 8),),
    link=LinkSpec(rtt_ms=5, jitter_ms=1),
    targets=(TargetClass("h100", "Llama-3.1-8B", 1, 2),),
    workload=Workload("closed", users=8),
    lengths=Lengths(40, 40, 30, 25),
    warm_up_ms=0,
    horizon_ms=40_000,
)

scenarios = st.builds(
    lambda rtt, rate, users, slots, queue, warm_up, drain, output: replace(
        CLOSED,
        link=LinkSpec(rtt, 3.0),
        targets=(TargetClass("h100", "Llama-3.1-8B", 1, 2, max_sequences=slots, max_queue=queue),),
        workload=Workload("closed", users=users, think_ms=50.0) if users else Workload(rate_per_s=rate),
        lengths=Lengths(80, 50, output, 0.8 * output),
        warm_up_ms=warm_up,
        horizon_ms=2000,
        drain_ms=drain,
    ),
    st.floats(0, 80),
    st.floats(2, 60),
    st.sampled_from([0, 1, 5]),
    st.sampled_from([1, 64]),
    st.sampled_from([1, 512]),
    st.sampled_from([0.0, 800.0]),
    st.sampled_from([0.0, 60_000.0]),
    st.floats(1, 40),
)
values = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e9)), min_size=1, max_size=60)


def assert_same(streamed: Metrics, exact: Metrics) -> None:
    """Equal to 1e-9, percentiles to the histogram's error."""
    assert list(streamed) == list(exact)
    for name, value in exact.items():
        relative = RELATIVE_ERROR * (1 + 1e-9) if "_p" in name else 1e-9
        assert streamed[name] == pytest.approx(value, rel=relative, abs=1e-12, nan_ok=True), name


def streamed(scenario: Scenario, spec: str, seed: int) -> Tally[Histogram]:
    tally = Tally(Histogram)
    left = simulate(scenario, make_controller(spec, scenario.max_window), seed, sink=tally)
    assert not left.rounds and all(request.finish_ms is None for request in left.requests)
    return tally


@settings(max_examples=40, deadline=None)
@given(scenarios, st.sampled_from(["static:0", "static:3", "heuristic"]), st.integers(0, 2**31))
def test_a_streamed_run_has_the_figures_of_its_records(scenario: Scenario, spec: str, seed: int) -> None:
    records = simulate(scenario, make_controller(spec, scenario.max_window), seed)
    try:
        exact = summarise(records)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            streamed(scenario, spec, seed).metrics()
        return
    assert_same(streamed(scenario, spec, seed).metrics(), exact)


@given(values, st.floats(0, 100))
def test_histogram_knows_percentiles_to_its_error_and_the_mean_exactly(numbers: list[float], percentile: float) -> None:
    histogram, exact = Histogram(), Exact()
    for number in numbers:
        histogram.add(number)
        exact.add(number)
    found, true = histogram.percentile(percentile), float(np.percentile(numbers, percentile))
    assert found == pytest.approx(true, rel=RELATIVE_ERROR * (1 + 1e-9), abs=1e-9)
    assert exact.percentile(percentile) == true
    assert histogram.mean() == pytest.approx(exact.mean(), rel=1e-12)


def test_a_histogram_is_no_larger_for_more_values() -> None:
    """Latencies between 1 ms and 10 minutes take at most ln(6e5) / ln g bins, however many they are."""
    histogram = Histogram()
    for value in np.geomspace(1.0, 600_000.0, 20_000):
        histogram.add(float(value))
    assert histogram.count == 20_000 and len(histogram.bins) <= math.log(6e5) / (2 * RELATIVE_ERROR) + 2


@given(values, values)
def test_histograms_add_up_and_survive_json(first: list[float], second: list[float]) -> None:
    parts, whole = [Histogram(), Histogram()], Histogram()
    for part, numbers in zip(parts, (first, second), strict=True):
        for number in numbers:
            part.add(number)
            whole.add(number)
    read = build(Histogram, json.loads(json.dumps(to_dict(parts[0]))), source="json")
    assert read == parts[0]
    read.merge(parts[1])
    assert (read.bins, read.zeros, read.count) == (whole.bins, whole.zeros, whole.count)
    assert read.total == pytest.approx(whole.total, rel=1e-12)


def test_totals_of_runs_add_up_to_those_of_all_their_requests() -> None:
    """Rates are those of the time measured together, and percentiles those of all requests, not means of runs."""
    scenario = replace(CLOSED, horizon_ms=3000, warm_up_ms=1000)
    runs = [streamed(scenario, "static:3", seed) for seed in range(3)]
    total = Totals()
    for run in runs:
        total.merge(Totals(run.counts, run.latencies))
    together = figures(total.counts, total.latencies)
    apart = [run.metrics() for run in runs]
    weights = [one["scored_requests"] for one in apart]
    assert together["scored_requests"] == sum(weights)
    assert together["ttft_ms"] == pytest.approx(np.average([one["ttft_ms"] for one in apart], weights=weights))
    for name in ("throughput_tokens_s", "goodput_requests_s", "target_utilisation"):
        assert together[name] == pytest.approx(np.mean([one[name] for one in apart]))
    assert min(one["ttft_ms_p50"] for one in apart) <= together["ttft_ms_p50"]
    assert together["ttft_ms_p50"] <= max(one["ttft_ms_p50"] for one in apart)


class Scales(Tally[Histogram]):
    """A tally that weighs all that Python holds at each tenth of the run."""

    def __init__(self, horizon_ms: float) -> None:
        super().__init__(Histogram)
        self.kilobytes: list[float] = []
        self._tenth_ms = horizon_ms / 10.0

    def add_round(self, round: Round) -> None:
        super().add_round(round)
        if round.end_ms >= (len(self.kilobytes) + 1) * self._tenth_ms:
            gc.collect()
            self.kilobytes.append(tracemalloc.get_traced_memory()[0] / 1e3)


def test_memory_does_not_grow_with_the_run() -> None:
    """Kept rounds alone would be some 3 MB here; what a histogram's bins and users in mid-request vary by is less."""
    sink = Scales(CLOSED.horizon_ms)
    tracemalloc.start()
    try:
        simulate(CLOSED, make_controller("static:3", CLOSED.max_window), 0, sink=sink)
    finally:
        tracemalloc.stop()
    assert sink.counts.rounds > 5000 and len(sink.kilobytes) >= 9
    assert max(sink.kilobytes[1:]) - sink.kilobytes[0] < 60


def test_a_sink_sees_everything_once_and_in_order() -> None:
    """What a sink is told, put together, are the records of the same run."""

    class Keeper:
        def begin(self, records: Records) -> None:
            self.records = records

        def add_round(self, round: Round) -> None:
            self.records.rounds.append(round)

        def add_request(self, request: RequestRecord) -> None:
            self.records.requests.append(request)

        def end(self, records: Records) -> None:
            self.records = replace(self.records, stopped_ms=records.stopped_ms, targets=records.targets)

    keeper = Keeper()
    sink: Sink = keeper
    scenario = replace(CLOSED, horizon_ms=1500, drain_ms=0)
    controller = make_controller("static:3", scenario.max_window)
    simulate(scenario, controller, 5, sink=sink)
    assert keeper.records == simulate(scenario, controller, 5)
