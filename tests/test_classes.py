"""Request classes: drawn by share whatever is decided, with lengths, acceptance and promises of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from agents import make_controller
from dsd_gym.config import ConfigError
from dsd_gym.metrics import meets_slos, summarise
from dsd_gym.records import Records
from dsd_gym.reference import class_records, mean_acceptance, saturation_rate
from dsd_gym.scenario import Acceptance, Lengths, Pair, RequestClass, Scenario, Slo, Workload
from dsd_gym.scenario.mix import acceptance_of, class_priority, class_shares, mean_lengths
from dsd_gym.scenario_files import scenario_from
from dsd_gym.simulator import Simulation, simulate
from dsd_gym.workload import Population

CHAT = RequestClass("chat", 3.0, 2, Slo(400, 120), Lengths(100, 100, 20, 20), Acceptance("constant", 0.4))
BATCH = RequestClass("batch", 1.0, slo=Slo(60_000, 500), lengths=Lengths(400, 400, 60, 60))
MIXED = Scenario(
    classes=(CHAT, BATCH),
    acceptance=Acceptance("constant", 0.9),
    workload=Workload(rate_per_s=8.0),
    warm_up_ms=1000,
    horizon_ms=20_000,
)


def run(scenario: Scenario, spec: str = "static:2", seed: int = 0) -> Records:
    return simulate(scenario, make_controller(spec, scenario.max_window), seed)


def test_shares_lengths_and_luck() -> None:
    """4000 draws: a share's standard error is 0.7 points. A request's class is the same under any controller."""
    drawn = list(islice(Population(MIXED, 5).arrivals(), 4000))
    counts = Counter(arrival.request_class for arrival in drawn)
    assert class_shares(MIXED) == [0.75, 0.25] and counts[0] / 4000 == pytest.approx(0.75, abs=0.02)
    for arrival in drawn:
        assert (arrival.prompt_tokens, arrival.output_tokens) == ((100, 20), (400, 60))[arrival.request_class]
    of = [{r.stream: r.request_class for r in run(MIXED, spec).requests} for spec in ("static:0", "static:5")]
    assert of[0] == of[1] and set(of[0].values()) == {0, 1}


def test_a_class_leaves_all_other_luck_alone() -> None:
    """One class that says nothing of its own changes nothing but the name it is scored by."""
    plain = replace(MIXED, classes=())
    ours, theirs = run(replace(MIXED, classes=(RequestClass("all"),))), run(plain)
    assert ours.rounds == theirs.rounds and ours.requests == theirs.requests
    figures = summarise(ours)
    assert figures["goodput_requests_s.all"] == figures["goodput_requests_s"]
    assert not [name for name in summarise(theirs) if "." in name]


def test_each_class_drafts_with_its_own_acceptance() -> None:
    records = run(MIXED)
    kind_of = {r.stream: r.request_class for r in records.requests}
    for kind, probability in ((0, 0.4), (1, 0.9)):
        first = [round.accepted > 0 for round in records.rounds if kind_of[round.stream] == kind and round.drafted]
        assert np.mean(first) == pytest.approx(probability, abs=0.06)


def test_the_pair_goes_before_the_class_and_the_class_before_the_scenario() -> None:
    edges, targets = (replace(MIXED.edges[0], name="e"),), (replace(MIXED.targets[0], name="t"),)
    paired = replace(MIXED, edges=edges, targets=targets, pairs=(Pair("e", "t", Acceptance("constant", 0.1)),))
    assert [acceptance_of(MIXED, 0, 0, kind).probability for kind in (0, 1)] == [0.4, 0.9]
    assert [acceptance_of(paired, 0, 0, kind).probability for kind in (0, 1)] == [0.1, 0.1]
    assert mean_acceptance(MIXED, 0, 0) == pytest.approx(0.75 * 0.4 + 0.25 * 0.9)


def test_load_counts_the_mean_lengths_of_all_classes() -> None:
    assert mean_lengths(MIXED) == pytest.approx((30.0, 175.0))
    loaded = replace(MIXED, workload=Workload(load=0.5))
    arrivals = list(islice(Population(loaded, 0).arrivals(), 3000))
    rate = 3000 / (arrivals[-1].arrival_ms / 1000.0)
    assert rate == pytest.approx(0.5 * saturation_rate(loaded, 30.0, 175.0), rel=0.06)


def test_each_request_is_judged_by_the_promises_of_its_class() -> None:
    records = run(replace(MIXED, workload=Workload(rate_per_s=20.0)))
    assert records.classes == class_records(MIXED) and [kind.name for kind in records.classes] == ["chat", "batch"]
    figures = summarise(records)
    within: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    for request in records.requests:
        if request.arrival_ms >= records.start_ms:
            kind = (CHAT, BATCH)[request.request_class]
            assert kind.slo
            scored[kind.name] += 1
            within[kind.name] += meets_slos(request, kind.slo.ttft_ms, kind.slo.tpot_ms)
    assert 0 < within["chat"] < scored["chat"] and within["batch"] == scored["batch"] > 0
    for name in ("chat", "batch"):
        assert figures[f"goodput_requests_s.{name}"] == pytest.approx(within[name] / 19)
        assert figures[f"slo_attainment.{name}"] == pytest.approx(within[name] / scored[name])
    assert figures["goodput_requests_s"] == pytest.approx(within.total() / 19)
    assert figures["slo_attainment"] == pytest.approx(within.total() / scored.total())


def test_requests_carry_priority_and_promises() -> None:
    simulation = Simulation(replace(MIXED, classes=(CHAT, RequestClass("rest"))), seed=0)
    met = set()
    for _ in range(40):
        ask = simulation.next_decision()
        assert ask is not None
        request = simulation.live[ask.stream]
        met.add((request.arrival.request_class, request.priority, request.slo))
        simulation.answer(make_controller("static:2", 12).decide(ask.observation, ask.stream))
    assert met == {(0, 2, CHAT.slo), (1, 0, Slo())} and class_priority(MIXED, 0) == 2


def test_a_trace_brings_its_lengths_and_the_classes_their_promises(tmp_path: Any) -> None:
    rows = [f'{{"timestamp": {200 * i}, "input_length": 30, "output_length": 12}}' for i in range(60)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    workload = Workload("trace", trace=str(tmp_path / "t.jsonl"))
    classes = replace(CHAT, lengths=None), replace(BATCH, lengths=None)
    records = run(replace(MIXED, classes=classes, workload=workload))
    assert {r.output_tokens for r in records.requests} == {12} and {r.request_class for r in records.requests} == {0, 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "classes.1.name: a stands twice"),
        ({"classes": [{"name": ""}]}, "classes.0.name: must not be empty"),
        ({"classes": [{"share": 1.0}]}, "classes.0.name: missing"),
        ({"classes": [{"name": "a", "share": 0}]}, "classes.0.share: must be greater than 0"),
        ({"classes": [{"name": "a", "sl0": {}}]}, "classes.0.sl0: unknown key; did you mean slo?"),
        (
            {"classes": [{"name": "a", "lengths": {}}], "workload": {"kind": "trace", "trace": "x"}},
            "classes.0.lengths: a trace brings its own lengths",
        ),
    ],
)
def test_a_class_that_cannot_be_is_one_clear_line(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario_from(data, source="mix.yaml")
    assert str(caught.value).startswith("mix.yaml: ") and says in str(caught.value)
