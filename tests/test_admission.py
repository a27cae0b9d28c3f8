"""Admission: forecasts near what comes, promises kept where somebody is turned away, nobody lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import make_controller
from agents.base import Controller
from agents.credit import StreamCredit
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.forecast import Forecast, Foreseen
from dsd_gym.metrics import summarise
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records, Status
from dsd_gym.request import Request
from dsd_gym.scenario import Admission, EdgeClass, Lengths, LinkSpec, RequestClass, Scenario, Slo, TargetClass, Workload
from dsd_gym.simulator import Simulation, simulate
from dsd_gym.vector.layout import ROUND, STREAM
from tests.test_conservation import check

OVERLOAD = Scenario(
    edges=(EdgeClass("l40s/Llama-3.2-1B", 200),),
    link=LinkSpec(rtt_ms=12, jitter_ms=3),
    targets=(TargetClass("a100", "Llama-2-70b", 4),),
    workload=Workload(load=1.3),
    lengths=Lengths(300, 240, 80, 65),
    slo=Slo(ttft_ms=900, tpot_ms=120),
    warm_up_ms=3000,
    horizon_ms=15_000,
    drain_ms=40_000,
)


class Asked(Controller):
    """Fixed windows, and a list of who was asked."""

    def __init__(self, window: int) -> None:
        self.window, self.asked = window, Counter[int]()

    def decide(self, observation: Observation, stream: int) -> Decision:
        self.asked[stream] += 1
        return Decision(self.window)


def run(scenario: Scenario, rule: str, window: int = 8, margin: float = 1.0) -> tuple[Records, Asked]:
    controller = Asked(window)
    admission = Admission(rule, margin)  # type: ignore[arg-type]
    return simulate(replace(scenario, admission=admission), controller, 0), controller


def goodput(scenario: Scenario, rule: str, window: int = 8) -> float:
    return summarise(run(scenario, rule, window)[0])["goodput_requests_s"]


def test_turning_some_away_lets_more_keep_their_promises() -> None:
    assert goodput(OVERLOAD, "reject") > 1.2 * goodput(OVERLOAD, "none")


def test_leaving_some_to_the_cloud_helps_where_long_windows_hurt() -> None:
    assert goodput(OVERLOAD, "degrade") > 1.2 * goodput(OVERLOAD, "none")


@pytest.mark.parametrize("rule", ["reject", "degrade"])
def test_nobody_is_touched_where_there_is_time(rule: str) -> None:
    calm = replace(OVERLOAD, workload=Workload(load=0.2))
    assert run(calm, rule)[0] == run(calm, "none")[0]


def test_rejection_is_early_and_counted() -> None:
    records, controller = run(OVERLOAD, "reject")
    check(records)
    away = [r for r in records.requests if r.status is Status.REJECTED]
    assert away and all(r.first_token_ms is None and r.committed_tokens == 0 for r in away)
    assert not controller.asked.keys() & {r.stream for r in away}
    figures = summarise(records)
    scored = [r for r in away if r.arrival_ms >= records.start_ms]
    assert figures["rejected"] == len(scored) and figures["degraded"] == 0
    assert figures["slo_attainment"] * figures["scored_requests"] == pytest.approx(figures["goodput_requests_s"] * 12)


def test_degraded_requests_are_decoded_in_the_cloud_and_nobody_asks() -> None:
    records, controller = run(OVERLOAD, "degrade")
    check(records)
    left = {r.stream for r in records.requests if r.degraded}
    assert left and not left & controller.asked.keys()
    rounds = [r for r in records.rounds if r.stream in left]
    assert all(r.window == 0 and r.drafted == 0 and r.cloud_tokens == r.committed for r in rounds)
    assert all(r.decided_ms == r.start_ms for r in rounds)
    assert controller.asked.keys() and all(r.drafted for r in records.rounds if r.stream in controller.asked)
    assert summarise(records)["degraded"] == sum(r.degraded and r.arrival_ms >= 3000 for r in records.requests)


def test_who_is_turned_away_is_off_the_books() -> None:
    simulation = Simulation(replace(OVERLOAD, admission=Admission("reject", 0.3)), seed=0)
    while simulation.next_decision() is not None:
        simulation.answer(Decision(8))
    assert Status.REJECTED in {r.status for r in simulation.records().requests}
    assert [target.live for target in simulation.targets] == [0]


@pytest.mark.parametrize(
    ("load", "limits", "from_ms", "within"),
    [
        (0.02, {}, 0, 0.2),
        (0.5, {}, 0, 0.25),
        (2.0, {"kv_tokens": 9000}, 3000, 0.4),
        (0.05, {"prefill_chunk_tokens": 16}, 0, 0.35),
    ],
)
def test_forecast_is_near_the_first_token(
    monkeypatch: pytest.MonkeyPatch, load: float, limits: dict[str, int], from_ms: float, within: float
) -> None:
    """Median over some 10 to 100 requests: idle, half loaded, in the long queue for too little memory, in chunks."""
    foreseen: dict[int, float] = {}
    forecast = Forecast.of

    def spy(self: Forecast, request: Request) -> Foreseen:
        found = forecast(self, request)
        foreseen[request.arrival.stream] = found.ttft_ms
        return found

    monkeypatch.setattr(Forecast, "of", spy)
    targets = (replace(OVERLOAD.targets[0], **limits),)
    records, _ = run(replace(OVERLOAD, workload=Workload(load=load), targets=targets), "reject", 4, margin=1e9)
    times_ms = {r.stream: r.first_token_ms - r.arrival_ms for r in records.requests if r.first_token_ms}
    ratios = [foreseen[stream] / ms for stream, ms in times_ms.items() if ms >= from_ms]
    assert len(ratios) >= 5 and np.median(ratios) == pytest.approx(1.0, abs=within)


@pytest.mark.parametrize("order", ["priority", "edf"])
def test_nobody_urgent_is_turned_away_for_whom_it_would_overtake(order: str) -> None:
    classes = (
        RequestClass("urgent", 1.0, 0, Slo(900, 120), Lengths(300, 250, 60, 50)),
        RequestClass("batch", 2.0, 5, Slo(60_000, 300), Lengths(1500, 1200, 100, 80)),
    )
    targets = (TargetClass("a100", "Llama-3.1-70B", 4, count=2, order=order, kv_tokens=30_000),)  # type: ignore[arg-type]
    scenario = replace(OVERLOAD, targets=targets, classes=classes, workload=Workload(load=1.5), router="jsq")
    kept = [summarise(run(scenario, rule, 4)[0])["slo_attainment.urgent"] for rule in ("none", "reject")]
    assert kept[0] > 0.5 and kept[1] > kept[0] - 0.02


def test_margin_makes_a_target_stricter() -> None:
    """More are turned away the less of the promised time may be used."""

    def rejected(margin: float) -> int:
        records, _ = run(OVERLOAD, "reject", margin=margin)
        return sum(r.status is Status.REJECTED for r in records.requests)

    assert rejected(0.3) > rejected(1.0) > rejected(3.0)


@pytest.mark.parametrize("spec", ["static:4", "heuristic", "leviathan", "awc", "policies/edge_cloud.safetensors"])
def test_controllers_bear_rounds_that_they_did_not_decide(spec: str) -> None:
    scenario = replace(OVERLOAD, admission=Admission("degrade"), horizon_ms=6000)
    check(simulate(scenario, make_controller(spec, 12), 1))


def test_an_episode_asks_for_none_of_the_degraded() -> None:
    env = EdgeCloudEnv(replace(OVERLOAD, admission=Admission("degrade"), horizon_ms=5000))
    _, info = env.reset(seed=3)
    asked, degraded, over = {info["stream"]}, set(), False
    while not over:
        _, _, terminated, truncated, info = env.step(8)  # type: ignore[arg-type]
        over = terminated or truncated
        asked.add(info["stream"])
        degraded |= {request.stream for request in info["ended"] if request.degraded}
    assert degraded and not degraded & asked


def test_a_round_that_nobody_decided_is_nobodys_credit() -> None:
    credit = StreamCredit(4, spaces.Box(0.0, 1.0, (2,)), spaces.Discrete(3))
    credit.reset()
    undecided, left = np.zeros(1, ROUND), np.zeros(1, STREAM)
    undecided["stream"] = left["stream"] = 7
    undecided["end_ms"], undecided["committed"] = 40.0, 8
    credit.happened(undecided, left, np.array([20.0]))
    credit.finish()
    assert not len(credit.learned().cost)


SCENARIOS = st.builds(
    lambda rule, margin, ttft, tpot, rate, users, kv, queue, output: Scenario(
        edges=(EdgeClass("l40s/Qwen2.5-0.5B", 4),),
        targets=(TargetClass("h100", "Llama-3.1-8B", 1, 2, kv_tokens=kv, max_queue=queue),),
        admission=Admission(rule, margin),
        slo=Slo(ttft, tpot),
        workload=Workload("closed", users=users) if users else Workload("bursty", rate_per_s=rate),
        lengths=Lengths(80, 50, output, output),
        warm_up_ms=0,
        horizon_ms=1500,
        max_requests=40,
    ),
    st.sampled_from(["reject", "degrade"]),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.sampled_from([1.0, 60.0, 5000.0]),
    st.sampled_from([1.0, 20.0]),
    st.floats(2, 200),
    st.sampled_from([0, 5]),
    st.sampled_from([130, 500, None]),
    st.sampled_from([1, 512]),
    st.integers(1, 30),
)


@settings(max_examples=40)
@given(SCENARIOS, st.integers(0, 12), st.integers(0, 2**31))
def test_admission_loses_nobody(scenario: Scenario, window: int, seed: int) -> None:
    records = simulate(scenario, Asked(window), seed)
    check(records)
    assert all(r.status in (Status.FINISHED, Status.REJECTED) for r in records.requests)
    free = simulate(replace(scenario, admission=Admission()), Asked(window), seed)
    if scenario.workload.kind != "closed":
        assert len(free.requests) == len(records.requests)
