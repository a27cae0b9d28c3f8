"""Links on which messages queue: waits of queueing theory, order, and nothing idle while somebody waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import make_controller
from dsd_gym.network import Link, make_link, make_links
from dsd_gym.records import Records
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Messages, Outage, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate

SLOW = LinkSpec(rtt_ms=10, jitter_ms=0, up_mbps=0.8, down_mbps=8, queueing="site")  # 100 and 1,000 bytes a ms
SITE = (EdgeClass(count=12, site="office"), EdgeClass(count=8, site="office"))
DEPARTURES = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 3000)), min_size=1, max_size=40).map(sorted)


def waits_ms(links: list[Link], gaps_ms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return what messages of random devices wait in the uplink's queue."""
    devices = np.random.default_rng(1).integers(len(links), size=len(gaps_ms))
    sent = zip(devices, np.cumsum(gaps_ms).tolist(), sizes.tolist(), strict=True)
    return np.array([links[device].uplink(now_ms, size)[0] - 5.0 for device, now_ms, size in sent])


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_waits_for_a_shared_pipe_are_those_of_mm1_and_md1(load: float) -> None:
    """100,000 messages of mean 1 ms: standard error of the mean wait some 2.5 % at load 0.7."""
    random = np.random.default_rng(2)
    gaps_ms, sizes = random.exponential(1.0 / load, 100_000), random.exponential(100.0, 100_000)
    mm1 = waits_ms(make_links(SITE, SLOW, 0), gaps_ms, sizes)
    md1 = waits_ms(make_links(SITE, SLOW, 0), gaps_ms, np.full(100_000, 100.0))
    assert mm1.mean() == pytest.approx(load / (1 - load), rel=0.08)
    assert md1.mean() == pytest.approx(load / (1 - load) / 2, rel=0.08)
    for waits in (mm1, md1):  # who comes at random finds the pipe busy for its share of time
        assert (waits > 1e-9).mean() == pytest.approx(load, abs=0.01)


@given(DEPARTURES, st.booleans())
def test_a_queue_is_fifo_and_never_idle_while_somebody_waits(messages: list[tuple[float, float]], up: bool) -> None:
    link, rate = make_link(replace(SLOW, outages=(Outage(100, 50),)), 0, 0), 100.0 if up else 1000.0
    free_ms = 0.0
    for now_ms, size in messages:
        propagation_ms, transmission_ms = (link.uplink if up else link.downlink)(now_ms, size)
        began_ms = now_ms + propagation_ms - 5.0
        assert transmission_ms == pytest.approx(size / rate)
        ready_ms = max(now_ms, free_ms)
        assert began_ms == pytest.approx(150.0 if 100.0 <= ready_ms < 150.0 else ready_ms, abs=1e-6)
        free_ms = began_ms + transmission_ms


def test_who_shares_a_pipe() -> None:
    far = replace(SLOW, rtt_ms=99.0)
    edges = (*SITE, EdgeClass(count=2, site="home"), EdgeClass(count=1, site="office", link=far))
    links = make_links(edges, SLOW, 0)
    assert len({id(link) for link in links[:20]}) == 1
    assert links[20] is links[21] is not links[0] and links[22] not in links[:22]
    assert len({id(link) for link in make_links(edges, replace(SLOW, queueing="device"), 0)}) == 23


def test_ways_up_and_down_do_not_wait_for_each_other() -> None:
    link = make_link(SLOW, 0, 0)
    assert link.uplink(0.0, 1000) == (5.0, 10.0)
    assert link.downlink(1.0, 1000) == (5.0, 1.0)
    assert link.uplink(4.0, 100) == (5.0 + 6.0, 1.0)


PROMPTS = Scenario(
    edges=(EdgeClass(count=200, draft_ms_per_token=5.0, prefill_ms_per_token=0.0),),
    link=replace(SLOW, up_mbps=0.16),
    targets=(TargetClass("h100", "Llama-3.1-8B", 1),),
    workload=Workload(rate_per_s=7.0),
    lengths=Lengths(prompt_mean=500, prompt_median=500, output_mean=1, output_median=1),
    messages=Messages(header_bytes=0),
    warm_up_ms=0,
    horizon_ms=1e5,
)


def simulated(scenario: Scenario, queueing: str, window: int = 4) -> Records:
    scenario = replace(scenario, link=replace(scenario.link, queueing=queueing))
    return simulate(scenario, make_controller(f"static:{window}", scenario.max_window), 3)


def test_prompts_of_a_site_wait_for_its_uplink_as_lindley_has_it() -> None:
    """A prompt of 2,000 bytes takes 100 ms and 7 a second come: W(n+1) = max(0, W(n) + 100 - gap) (Lindley, 1952)."""
    alone, device, site = (simulated(PROMPTS, queueing) for queueing in ("none", "device", "site"))
    arrivals_ms = sorted(r.arrival_ms for r in alone.requests)
    waits_ms = [0.0]
    for gap_ms in np.diff(arrivals_ms):
        waits_ms.append(max(0.0, waits_ms[-1] + 100.0 - gap_ms))

    def mean_ttft_ms(records: Records) -> float:
        return float(np.mean([r.first_token_ms - r.arrival_ms for r in records.requests]))  # type: ignore[operator]

    assert mean_ttft_ms(site) - mean_ttft_ms(alone) == pytest.approx(np.mean(waits_ms), rel=0.02)
    assert mean_ttft_ms(device) - mean_ttft_ms(alone) < 0.02 * np.mean(waits_ms)  # each has 1/200 of the load


@pytest.mark.parametrize("window", [0, 4])
def test_an_edge_sees_a_full_queue_as_a_longer_round_trip(window: int) -> None:
    scenario = replace(
        PROMPTS,
        link=replace(SLOW, up_mbps=0.05, down_mbps=0.05),
        lengths=Lengths(20, 20, 40, 40),
        messages=Messages(),
        horizon_ms=60_000,
        workload=Workload(rate_per_s=1.5),
    )
    alone, shared = simulated(scenario, "none", window), simulated(scenario, "site", window)
    assert all(round.rtt_ms == pytest.approx(10.0) for round in alone.rounds)
    assert all(round.rtt_ms > 10.0 - 1e-9 for round in shared.rounds)
    assert np.mean([round.rtt_ms for round in shared.rounds]) > 12.0
    assert [r.committed_tokens for r in shared.requests] == [r.committed_tokens for r in alone.requests]


def test_a_window_holds_nobody_up_while_it_is_drafted() -> None:
    """Four tokens take 2 s to draft; where they took their place in the queue at once, prompts would wait for them."""
    slow = EdgeClass(count=50, draft_ms_per_token=500.0, prefill_ms_per_token=0.0)
    wide = replace(SLOW, up_mbps=1e3, down_mbps=1e3)
    scenario = replace(PROMPTS, edges=(slow,), link=wide, lengths=Lengths(20, 20, 8, 8), horizon_ms=20_000)
    alone, site = simulated(scenario, "none"), simulated(scenario, "site")
    for before, after in zip(alone.rounds, site.rounds, strict=True):
        assert after.rtt_ms == pytest.approx(10.0, abs=1.0)
        assert after.end_ms == pytest.approx(before.end_ms, abs=100.0)  # some catch another pass of the target


def test_alone_on_a_device_nobody_waits() -> None:
    """One user has one message on its way: queueing changes no round, but for rounding."""
    user = replace(PROMPTS, workload=Workload("closed", users=1), lengths=Lengths(20, 20, 40, 40), max_requests=5)
    for window in (0, 4):
        none, device = simulated(user, "none", window), simulated(user, "device", window)
        assert len(none.rounds) == len(device.rounds)
        for before, after in zip(none.rounds, device.rounds, strict=True):
            assert after.end_ms == pytest.approx(before.end_ms) and after.rtt_ms == pytest.approx(before.rtt_ms)
