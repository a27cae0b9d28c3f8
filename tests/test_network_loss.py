"""Loss shows as delay: how often, how long, and with whose luck."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.network import make_link
from dsd_gym.network.loss import backoff_ms, times_lost
from dsd_gym.scenario import LinkSpec

LOSSY = LinkSpec(rtt_ms=40, jitter_ms=0, up_mbps=1e6, loss=0.1)


def delays_ms(spec: LinkSpec, message_bytes: float, count: int = 20_000, seed: int = 0) -> np.ndarray:
    link = make_link(spec, seed, 7)
    return np.array([link.uplink(float(ms), message_bytes)[0] for ms in range(count)]) - 0.5 * spec.rtt_ms


def test_a_short_message_waits_for_timeouts_that_double() -> None:
    """20,000 messages: standard error 0.2 points of one loss, 0.07 of two."""
    delays = delays_ms(LOSSY, 120)
    assert set(np.round(delays, 6)) <= {0.0, 200.0, 600.0, 1400.0, 3000.0, 6200.0}
    for delay_ms, share in ((0.0, 0.9), (200.0, 0.09), (600.0, 0.009)):
        assert np.isclose(delays, delay_ms).mean() == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))


def test_a_long_message_mostly_takes_one_more_round_trip() -> None:
    """Of 20 segments, 17 are followed by three others: their losses cost a round trip, the last three's a timeout."""
    delays = delays_ms(LOSSY, 20 * 1448)
    assert np.isclose(delays, 0.0).mean() == pytest.approx(0.9**20, abs=0.01)
    assert np.isclose(delays, 40.0).mean() == pytest.approx(0.9**3 * (1 - 0.9**17), abs=0.015)


def test_no_timeout_is_below_two_round_trips() -> None:
    delays = delays_ms(LinkSpec(rtt_ms=400, jitter_ms=0, loss=0.5), 1, 200)
    assert set(np.round(delays, 6)) >= {0.0, 800.0, 2400.0} and np.round(delays, 6)[delays > 0.1].min() == 800.0
    assert set(np.round(delays_ms(LinkSpec(rtt_ms=0, jitter_ms=0, loss=0.3, retransmit_ms=7), 1, 200), 6)) >= {7, 21}


@given(st.floats(1e-12, 1 - 1e-12), st.floats(1e-6, 0.999), st.integers(1, 50))
def test_how_often_a_segment_is_lost_inverts_its_distribution(uniform: float, probability: float, count: int) -> None:
    losses = times_lost(uniform, probability, count)

    def at_most(k: int) -> float:
        return (1.0 - probability ** (k + 1)) ** count

    assert at_most(losses) >= uniform * (1 - 1e-9) and (losses == 0 or at_most(losses - 1) <= uniform * (1 + 1e-9))


@given(st.floats(0, 1e6), st.floats(0, 2e5), st.floats(0, 2e5), st.floats(0.001, 0.9), st.floats(0, 0.9))
def test_larger_messages_and_more_loss_never_arrive_earlier(
    now_ms: float, first: float, second: float, loss: float, more: float
) -> None:
    def delay_ms(message_bytes: float, share: float) -> float:
        return make_link(LinkSpec(rtt_ms=40, loss=share), 3, 1).uplink(now_ms, message_bytes)[0]

    assert delay_ms(min(first, second), loss) <= delay_ms(max(first, second), loss)
    assert delay_ms(first, loss) <= delay_ms(first, loss + more * (0.999 - loss))


def test_back_off_doubles_up_to_two_minutes() -> None:
    assert [backoff_ms(losses, 200.0) for losses in range(4)] == [0.0, 200.0, 600.0, 1400.0]
    assert backoff_ms(12, 200.0) - backoff_ms(11, 200.0) == 120_000.0 == backoff_ms(11, 200.0) - backoff_ms(10, 200.0)
    assert backoff_ms(10**15, 200.0) == pytest.approx(120_000.0 * 10**15)
    assert backoff_ms(3, 500_000.0) == 1_500_000.0


def test_directions_devices_and_seeds_have_their_own_luck() -> None:
    spec = LinkSpec(jitter_ms=0, loss=0.5)
    histories = set()
    for seed in (0, 1):
        for device in (0, 1, 2):
            link = make_link(spec, seed, device)
            for way in (link.uplink, link.downlink):
                histories.add(tuple(way(float(ms), 1)[0] > 50.0 for ms in range(64)))
    assert len(histories) == 12
