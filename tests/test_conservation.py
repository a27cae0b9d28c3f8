"""Nothing is lost: tokens and requests add up, rounds tile lives and time runs forwards, whatever the deployment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import make_controller
from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records, Status
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Regime, Scenario, TargetClass, Workload
from dsd_gym.simulator import Simulation, simulate

BUSY = Scenario(
    edges=(EdgeClass("l40s/Qwen2.5-0.5B", 24),),
    link=LinkSpec(rtt_ms=15, jitter_ms=3),
    workload=Workload(rate_per_s=12.0),
    lengths=Lengths(200, 150, 40, 30),
    warm_up_ms=0,
    horizon_ms=6000,
)


class Cycle(Controller):
    """Answer with the windows given, over and over."""

    def __init__(self, windows: Sequence[int]) -> None:
        self._windows, self._asked = windows, 0

    def decide(self, observation: Observation, stream: int) -> Decision:
        self._asked += 1
        return Decision(self._windows[self._asked % len(self._windows)])


def run(scenario: Scenario, spec: str = "static:4") -> Records:
    return simulate(scenario, make_controller(spec, scenario.max_window))


def check(records: Records) -> None:
    """Tokens and requests add up, rounds tile lives, and no time runs backwards."""
    rounds = defaultdict(list)
    for round in records.rounds:
        rounds[round.stream].append(round)
    for request in records.requests:
        own = rounds.pop(request.stream, [])
        unfinished = request.committed_tokens - sum(r.committed for r in own) - (request.first_token_ms is not None)
        assert unfinished >= 0  # tokens of a return from the cloud that the end of the run cut short
        assert all(a.end_ms == b.start_ms for a, b in pairwise(own))
        assert not own or own[0].start_ms == request.first_token_ms
        if request.status is Status.FINISHED:
            assert request.committed_tokens == request.output_tokens and unfinished == 0
            assert request.finish_ms == (own[-1].end_ms if own else request.first_token_ms)
        else:
            assert request.finish_ms is None and request.committed_tokens < request.output_tokens
            assert request.status is Status.IN_FLIGHT or request.committed_tokens == 0
    assert not rounds
    for r in records.rounds:
        assert r.start_ms <= r.decided_ms <= r.end_ms <= records.stopped_ms
        assert 0 <= r.accepted <= r.drafted and 0 <= r.cloud_tokens <= r.committed and r.committed > 0
        assert r.committed - r.cloud_tokens <= r.accepted + 1 and r.drafted in (0, r.window)
        assert min(r.queue_wait_ms, r.externality_ms, r.rtt_ms, r.uplink_bytes, r.downlink_bytes) >= 0


@pytest.mark.parametrize("spec", ["static:0", "static:4", "heuristic", "leviathan"])
def test_every_token_is_committed_once(spec: str) -> None:
    records = run(BUSY, spec)
    check(records)
    assert {r.status for r in records.requests} == {Status.FINISHED}
    assert sum(r.committed for r in records.rounds) == sum(r.output_tokens - 1 for r in records.requests)


@pytest.mark.parametrize("limit", ["max_queue", "kv_tokens", "drain_ms"])
def test_no_request_is_dropped_silently(limit: str) -> None:
    target = BUSY.targets[0]
    scenario = {
        "max_queue": replace(BUSY, targets=(replace(target, max_queue=1, kv_tokens=900),)),
        "kv_tokens": replace(BUSY, targets=(replace(target, kv_tokens=300),)),
        "drain_ms": replace(BUSY, drain_ms=10.0),
    }[limit]
    records = run(scenario)
    check(records)
    statuses = [r.status for r in records.requests]
    assert sorted(r.stream for r in records.requests) == list(range(len(statuses)))
    arrived = [r.arrival_ms for r in run(BUSY).requests]
    assert sorted(r.arrival_ms for r in records.requests) == sorted(arrived)
    assert (Status.IN_FLIGHT if limit == "drain_ms" else Status.REJECTED) in statuses and Status.FINISHED in statuses


def test_littles_law() -> None:
    """Time-average of live requests x time = sum of residences, exactly, as everybody has left."""
    simulation = Simulation(BUSY, seed=3)
    while simulation.next_decision() is not None:
        simulation.answer(Decision(3))
    records = simulation.records()
    assert all(r.finish_ms for r in records.requests)
    residence_ms = sum(r.finish_ms - r.arrival_ms for r in records.requests)  # type: ignore[operator]
    assert simulation.take_waited_ms() == pytest.approx(residence_ms, rel=1e-9)
    changes = sorted([(r.arrival_ms, 1) for r in records.requests] + [(r.finish_ms, -1) for r in records.requests])
    live, area_ms = 0, 0.0
    for (now_ms, change), (next_ms, _) in pairwise(changes):
        live += change
        area_ms += live * (next_ms - now_ms)
    assert area_ms == pytest.approx(residence_ms, rel=1e-9)


OUTAGES = (Regime("good", 300.0), Regime("bad", 100.0, 3.0, 0.2), Regime("stalled", 80.0, outage=True))
SCENARIOS = st.builds(
    lambda rate, rtt, jitter, regimes, users, budget, slots, kv, queue, output, accept, mode, chunk, drain: Scenario(
        edges=(EdgeClass("l40s/Qwen2.5-0.5B", 3), EdgeClass("phone_fast/1B", 2)),
        link=LinkSpec(rtt, jitter, 20.0, up_mbps=2.0, regimes=regimes),
        targets=(TargetClass("h100", "Llama-3.1-8B", 1, 2, slots, budget, kv, queue),),
        workload=Workload("closed", users=users) if users else Workload("bursty", rate_per_s=rate),
        lengths=Lengths(80, 50, output, output),
        acceptance=Acceptance("constant", accept),
        cloud=Cloud(mode, chunk),
        warm_up_ms=0,
        horizon_ms=1500,
        drain_ms=drain,
        max_requests=40,
    ),
    st.floats(2, 100),
    st.sampled_from([0.0, 3.0, 80.0]),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([(), OUTAGES]),
    st.sampled_from([0, 1, 6]),
    st.sampled_from([16, 100, 2048]),
    st.sampled_from([1, 3, 256]),
    st.sampled_from([120, 400, None]),
    st.sampled_from([1, 3, 512]),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.sampled_from(["plain", "draft"]),
    st.integers(1, 9),
    st.sampled_from([0.0, 500.0, 1e8]),
)


@settings(max_examples=60, deadline=None)
@given(SCENARIOS, st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(0, 2**31))
def test_any_deployment_conserves_tokens_and_requests(scenario: Scenario, windows: list[int], seed: int) -> None:
    records = simulate(scenario, Cycle(windows), seed)
    check(records)
    in_flight = sum(r.status is Status.IN_FLIGHT for r in records.requests)
    assert len({r.stream for r in records.requests}) == len(records.requests) <= 40
    assert in_flight == 0 or records.stopped_ms == scenario.horizon_ms + scenario.drain_ms
    assert in_flight == 0 or scenario.drain_ms < 1e8  # nobody is left waiting for ever
