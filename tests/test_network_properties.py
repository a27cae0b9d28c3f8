"""What holds on every link: causality, order of asking, more bandwidth no later, bounded memory; and no token lost."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import make_controller
from dsd_gym.network import make_link
from dsd_gym.records import Status
from dsd_gym.scenario import EdgeClass, Handover, Lengths, LinkSpec, Outage, Regime, Scenario, Workload
from dsd_gym.simulator import simulate

SAMPLE = str(Path(__file__).resolve().parents[1] / "configs" / "traces" / "sample_bandwidth.csv")
REGIMES = (Regime("good", 300), Regime("weak", 200, 2.0, 0.3), Regime("stalled", 80, outage=True))
SPECS = st.builds(
    LinkSpec,
    rtt_ms=st.sampled_from([0.0, 30.0]),
    jitter_ms=st.sampled_from([0.0, 9.0]),
    up_mbps=st.sampled_from([0.2, 10.0]),
    regimes=st.sampled_from([(), REGIMES]),
    up_share=st.sampled_from([0.0, 0.5, 0.8]),
    trace=st.sampled_from([None, SAMPLE]),
    trace_shift=st.booleans(),
    loss=st.sampled_from([0.0, 0.2]),
    outages=st.sampled_from([(), (Outage(700, 900), Outage(20_000, 5000))]),
    handover=st.sampled_from([None, Handover(4000, 300, 2.0)]),
    queueing=st.sampled_from(["none", "device"]),
)
MESSAGES = st.lists(st.tuples(st.floats(0, 90_000), st.floats(0, 20_000)), min_size=1, max_size=25)
SEEDS = st.integers(0, 2**31)


def arrivals_ms(spec: LinkSpec, seed: int, messages: list[tuple[float, float]], up: bool = True) -> list[float]:
    link = make_link(spec, seed, 3)
    return [now_ms + sum((link.uplink if up else link.downlink)(now_ms, size)) for now_ms, size in messages]


@given(SPECS, MESSAGES, SEEDS, st.booleans())
def test_nothing_arrives_before_it_could(
    spec: LinkSpec, messages: list[tuple[float, float]], seed: int, up: bool
) -> None:
    messages = sorted(messages)
    least_rtt_ms = (30.0 if spec.trace else spec.rtt_ms) / (spec.handover.rtt_spread if spec.handover else 1.0)
    fastest_mbps = (45.0 if spec.trace else spec.up_mbps) if up else (45.0 if spec.trace else spec.down_mbps)
    share = spec.up_share if up else 1.0 - spec.up_share
    for (now_ms, size), arrives_ms in zip(messages, arrivals_ms(spec, seed, messages, up), strict=True):
        assert arrives_ms >= now_ms + share * least_rtt_ms + size / (125.0 * fastest_mbps) - 1e-6


@given(SPECS, MESSAGES, SEEDS)
def test_luck_is_the_same_in_any_order_of_asking(
    spec: LinkSpec, messages: list[tuple[float, float]], seed: int
) -> None:
    spec = replace(spec, queueing="none")
    backwards = arrivals_ms(spec, seed, messages[::-1])[::-1]
    assert arrivals_ms(spec, seed, messages) == backwards
    assert [arrivals_ms(spec, seed, [message])[0] for message in messages] == backwards


@given(SPECS, MESSAGES, SEEDS, st.floats(1, 50))
def test_more_bandwidth_is_never_later(
    spec: LinkSpec, messages: list[tuple[float, float]], seed: int, factor: float
) -> None:
    """On a queue too, where leaving earlier does not meet other luck: there without jitter, regimes, loss and cells."""
    if spec.queueing != "none":
        spec = replace(spec, jitter_ms=0.0, regimes=(), loss=0.0, handover=None)
    spec, messages = replace(spec, trace=None), sorted(messages)
    faster = arrivals_ms(replace(spec, up_mbps=factor * spec.up_mbps), seed, messages)
    assert all(a <= b + 1e-6 for a, b in zip(faster, arrivals_ms(spec, seed, messages), strict=True))


@given(SPECS, MESSAGES, SEEDS)
def test_a_mechanism_that_is_off_changes_nothing(
    spec: LinkSpec, messages: list[tuple[float, float]], seed: int
) -> None:
    """A link with all mechanisms, but at values without effect, does to the bit what the plain one does."""
    plain = LinkSpec(spec.rtt_ms, spec.jitter_ms, up_mbps=spec.up_mbps, regimes=spec.regimes, up_share=spec.up_share)
    no_effect = replace(plain, loss=1e-300, outages=(Outage(1e9, 1),), handover=Handover(1e12, 0))
    assert arrivals_ms(no_effect, seed, messages) == arrivals_ms(plain, seed, messages)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_ways_share_the_round_trip(share: float) -> None:
    link = make_link(LinkSpec(rtt_ms=40, jitter_ms=10, up_share=share), 0, 0)
    even = make_link(LinkSpec(rtt_ms=40, jitter_ms=10), 0, 0)
    for now_ms in range(0, 5000, 30):
        rtt_ms = 2 * even.uplink(now_ms, 0)[0]
        assert link.uplink(now_ms, 0)[0] == pytest.approx(share * rtt_ms)
        assert link.downlink(now_ms, 0)[0] == pytest.approx((1 - share) * rtt_ms)


def test_an_hour_of_a_moving_link_takes_no_more_memory_than_a_minute() -> None:
    regimes = (Regime("good", 200), Regime("weak", 100, 2.0), Regime("stalled", 50, outage=True))

    def size_after(end_ms: int) -> int:
        link = make_link(LinkSpec(regimes=regimes, handover=Handover(300, 50, 2.0)), 0, 0)
        for now_ms in range(0, end_ms, 1000):
            link.uplink(now_ms + 2000.0, 100), link.downlink(now_ms, 100)
        return len(pickle.dumps(link))

    assert size_after(3_600_000) < 1.5 * size_after(60_000) < 20_000


@settings(max_examples=25, deadline=None)
@given(SPECS, st.sampled_from(["none", "device", "site"]), SEEDS, st.integers(0, 6))
def test_no_token_is_lost_on_any_link(spec: LinkSpec, queueing: str, seed: int, window: int) -> None:
    scenario = Scenario(
        edges=(EdgeClass("l40s/Qwen2.5-0.5B", 3), EdgeClass("phone_fast/1B", 2)),
        link=replace(spec, queueing=queueing),
        workload=Workload(rate_per_s=8.0),
        lengths=Lengths(60, 50, 20, 15),
        warm_up_ms=0,
        horizon_ms=2500,
        drain_ms=1e9,
    )
    records = simulate(scenario, make_controller(f"static:{window}", 12), seed)
    assert {r.status for r in records.requests} <= {Status.FINISHED}
    assert sum(r.committed for r in records.rounds) == sum(r.output_tokens - 1 for r in records.requests)
    for round in records.rounds:
        assert round.start_ms <= round.decided_ms <= round.end_ms and round.rtt_ms >= 0.0
