"""A link: what a message takes, and luck that depends on the clock alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.network import Link
from dsd_gym.scenario import LinkSpec, Regime

REGIMES = (
    Regime("good", dwell_ms=6000),
    Regime("weak", dwell_ms=3000, rtt_factor=2.0, bandwidth_factor=0.5),
    Regime("stalled", dwell_ms=1000, outage=True),
)
MOVING = LinkSpec(rtt_ms=60, jitter_ms=0, up_mbps=4, down_mbps=20, regimes=REGIMES)


def test_steady_message_takes_half_the_round_trip_and_its_transmission() -> None:
    link = Link(LinkSpec(rtt_ms=30, jitter_ms=0, up_mbps=2, down_mbps=8), seed=0, device=0)
    assert link.uplink(5.0, 1000) == (15.0, 4.0)  # 8000 bits at 2 Mb/s
    assert link.downlink(9.0, 1000) == (15.0, 1.0)


@given(st.lists(st.floats(0, 400_000), min_size=2, max_size=30), st.integers(0, 2**31))
def test_luck_is_the_same_in_any_order_of_asking(times: list[float], seed: int) -> None:
    spec = LinkSpec(rtt_ms=60, jitter_ms=15, regimes=REGIMES)
    in_order, backwards = Link(spec, seed, 3), Link(spec, seed, 3)
    forward = {ms: in_order.uplink(ms, 400) for ms in sorted(times)}
    assert {ms: backwards.uplink(ms, 400) for ms in sorted(times, reverse=True)} == forward


def test_devices_and_seeds_have_their_own_luck() -> None:
    spec = LinkSpec(rtt_ms=60, jitter_ms=15, regimes=REGIMES)
    links = [Link(spec, seed, device) for seed in (0, 1) for device in (0, 1)]
    histories = {tuple(link.uplink(ms * 500.0, 0)[0] for ms in range(40)) for link in links}
    assert len(histories) == 4


def test_share_of_time_in_a_regime_is_its_share_of_dwell() -> None:
    """60 devices for 300 s, some 5 000 dwells: standard error about one point."""
    links = [Link(MOVING, 1, device) for device in range(60)]
    names = [link.regime(ms)[0].name for link in links for ms in range(0, 300_000, 500)]
    for regime, share in zip(REGIMES, (0.6, 0.3, 0.1), strict=True):
        assert names.count(regime.name) / len(names) == pytest.approx(share, abs=0.03)


def test_first_regime_is_drawn_by_share_of_dwell() -> None:
    names = [Link(MOVING, 2, device).regime(0.0)[0].name for device in range(4000)]
    assert names.count("stalled") / 4000 == pytest.approx(0.1, abs=0.02)


def test_dwells_are_exponential_and_another_regime_follows() -> None:
    dwells: dict[str, list[float]] = {regime.name: [] for regime in REGIMES}
    for device in range(40):
        link, now_ms, last = Link(MOVING, 4, device), 0.0, ""
        while now_ms < 200_000:
            regime, ends_ms = link.regime(now_ms)
            assert regime.name != last and ends_ms > now_ms
            dwells[regime.name].append(ends_ms - now_ms)
            now_ms, last = ends_ms, regime.name
    for regime in REGIMES:  # some 800 dwells each: standard error of the mean 4 %
        sample = np.array(dwells[regime.name])
        assert sample.mean() == pytest.approx(regime.dwell_ms, rel=0.12)
        assert sample.std() == pytest.approx(sample.mean(), rel=0.15)


def test_a_message_in_an_outage_waits_till_its_end() -> None:
    waited = 0
    for device in range(30):
        link = Link(MOVING, 5, device)
        for now_ms in range(0, 60_000, 700):
            regime, ends_ms = link.regime(now_ms)
            propagation_ms, transmission_ms = link.uplink(now_ms, 1000)
            following = link.regime(ends_ms)[0] if regime.outage else regime
            expected_ms = 30.0 * following.rtt_factor + (ends_ms - now_ms if regime.outage else 0.0)
            assert propagation_ms == pytest.approx(expected_ms)
            assert transmission_ms == pytest.approx(2.0 / following.bandwidth_factor)
            waited += regime.outage
    assert waited > 50


def test_jitter_is_exponential_and_new_each_slot() -> None:
    """Its mean and deviation are `jitter_ms` of round trip: 20 000 slots, standard error 1 %."""
    link = Link(LinkSpec(rtt_ms=40, jitter_ms=12, jitter_slot_ms=50), seed=6, device=0)
    jitter = np.array([2 * link.uplink(50.0 * slot + 1, 0)[0] - 40 for slot in range(20_000)])
    assert jitter.min() >= 0
    assert jitter.mean() == pytest.approx(12, rel=0.03) and jitter.std() == pytest.approx(12, rel=0.05)
    assert abs(np.corrcoef(jitter[1:], jitter[:-1])[0, 1]) < 0.03
    assert link.uplink(101.0, 0) == link.uplink(149.0, 0) != link.uplink(151.0, 0)
