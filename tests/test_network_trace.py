"""Bandwidth traces: exact times over their pieces, repeated, each device at its own place, and files that are wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.config import ConfigError
from dsd_gym.network import make_link
from dsd_gym.network.bandwidth import BYTES_A_MS, Way
from dsd_gym.network.trace_file import read_bandwidth
from dsd_gym.scenario import LinkSpec, Regime, Scenario
from dsd_gym.simulator import Simulation

SAMPLE = Path(__file__).resolve().parents[1] / "configs" / "traces" / "sample_bandwidth.csv"
STEPS = "time_ms,up_mbps,down_mbps\n0,8,80\n100,0,8\n150,0.8,8\n250,8,8\n"  # 1000, 0, 100 and 1000 bytes a ms up


def link_spec(path: Path, text: str = STEPS, **more: object) -> LinkSpec:
    path = path / "trace.csv"
    path.write_text(text)
    return replace(LinkSpec(rtt_ms=10, jitter_ms=0, trace=str(path), trace_shift=False), **more)


@pytest.mark.parametrize(
    ("at_ms", "message_bytes", "took_ms"),
    [
        (0, 50_000, 50),
        (0, 100_000, 100),  # all of the first piece, and none of the pause after it
        (90, 10_100, 10 + 50 + 1),
        (120, 1000, 30 + 10),
        (240, 1000 + 5000, 10 + 5),
        (240, 1000 + 100_000 + 5000, 10 + 100 + 5),  # over the end, which is at 350 ms, into the next lap
        (350 * 7 + 240, 1000 + 5000, 10 + 5),
        (0, 4 * 210_000 + 50_000, 4 * 350 + 50),  # a lap passes 210,000 bytes
        (0, 210_000, 350),
        (120, 0, 0),
    ],
)
def test_a_message_takes_the_time_of_the_pieces_it_crosses(
    tmp_path: Path, at_ms: float, message_bytes: float, took_ms: float
) -> None:
    assert make_link(link_spec(tmp_path), 0, 0).uplink(at_ms, message_bytes) == (5.0, pytest.approx(took_ms))


def test_regimes_multiply_a_trace(tmp_path: Path) -> None:
    half = Regime("half", dwell_ms=1.0, rtt_factor=3.0, bandwidth_factor=0.5)
    assert make_link(link_spec(tmp_path, regimes=(half,)), 0, 0).uplink(240, 3000) == (15.0, pytest.approx(10 + 5))


RATES = st.lists(st.tuples(st.floats(0.1, 500), st.sampled_from([0.0, 0.3, 2.0, 50.0])), min_size=1, max_size=8)


@given(RATES.filter(lambda pieces: any(rate for _, rate in pieces)), st.floats(0, 0.999), st.floats(1, 1e5))
def test_what_passes_in_the_time_it_takes_is_the_message(
    pieces: list[tuple[float, float]], place: float, message_bytes: float
) -> None:
    bounds_ms = [0.0, *np.cumsum([length for length, _ in pieces]).tolist()]
    rates = [rate for _, rate in pieces]
    way, phase_ms = Way(bounds_ms, rates), place * bounds_ms[-1]
    took_ms = way.transmission_ms(phase_ms, message_bytes)

    def passed(until_ms: float) -> float:
        laps, rest_ms = divmod(until_ms, bounds_ms[-1])
        overlap = [max(0.0, min(end, rest_ms) - start) for start, end in pairwise(bounds_ms)]
        spans = np.diff(bounds_ms)
        return BYTES_A_MS * float(laps * (spans @ rates) + np.dot(overlap, rates))

    assert passed(phase_ms + took_ms) - passed(phase_ms) == pytest.approx(message_bytes, rel=1e-6)
    later_ms = 0.3 * bounds_ms[-1]  # who begins later ends no earlier
    after = way.transmission_ms((phase_ms + later_ms) % bounds_ms[-1], message_bytes)
    assert later_ms + after >= took_ms - 1e-6 * max(1.0, took_ms)


def test_devices_begin_a_trace_at_places_of_their_own(tmp_path: Path) -> None:
    """Over 3,000 devices, each rate holds at one moment for its share of time: standard error one point."""
    spec = link_spec(tmp_path, "time_ms,up_mbps,down_mbps\n0,8,1\n30,2,1\n90,4,1\n", trace_shift=True)
    ms_a_byte = np.array([make_link(spec, 5, device).uplink(77.0, 1e-3)[1] / 1e-3 for device in range(3000)])
    shares = [np.isclose(ms_a_byte, 1 / (BYTES_A_MS * mbps)).mean() for mbps in (8, 2, 4)]
    assert shares == pytest.approx([30 / 150, 60 / 150, 60 / 150], abs=0.03)
    assert len({make_link(replace(spec, trace_shift=False), 5, device).uplink(77.0, 1)[1] for device in range(9)}) == 1


def test_the_sample_is_what_its_comment_says() -> None:
    trace = read_bandwidth(str(SAMPLE))
    for t in range(60):
        up = 0.0 if 41 <= t < 43 else 8 + 5 * math.sin(2 * math.pi * t / 60) + 2 * math.sin(2 * math.pi * t / 7)
        took_ms = trace.up.transmission_ms(1000.0 * t, 1.0)
        assert took_ms == pytest.approx(8e-3 / up, rel=0.02) if up else took_ms >= 1000.0
        assert trace.rtt_ms(1000.0 * t + 500) == pytest.approx(45 + 15 * math.sin(2 * math.pi * t / 13), abs=0.006)
    assert trace.down.mean_mbps == pytest.approx(3 * trace.up.mean_mbps, rel=1e-3)


def test_a_trace_begins_with_its_first_row(tmp_path: Path) -> None:
    text = "time_ms,up_mbps,down_mbps\n5000,8,8\n5010,0.8,8\n"  # 10 ms each, as the last is like the one before
    assert make_link(link_spec(tmp_path, text), 0, 0).uplink(25.0, 5000 + 1000 + 3000)[1] == pytest.approx(5 + 10 + 3)


def test_a_recorded_round_trip_replaces_the_fixed_one() -> None:
    link = make_link(LinkSpec(rtt_ms=999, jitter_ms=0, trace=str(SAMPLE), trace_shift=False), 0, 0)
    assert link.uplink(0.0, 0)[0] == 22.5 and link.downlink(60_000.0, 0)[0] == 22.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("# nothing\ntime_ms,up_mbps,down_mbps\n", "no rows"),
        ("0,1,1\n", ":1: expected the columns"),
        ("time_ms,up_mbps,down_mbps\n0,1,1\n5,1\n", ":3: expected 3 values, got 2"),
        ("time_ms,up_mbps,down_mbps\n0,1,fast\n", ":2: down_mbps: expected a number, got 'fast'"),
        ("time_ms,up_mbps,down_mbps\n\n0,-1,1\n", ":3: up_mbps: must be a finite number from 0 on, got -1"),
        ("time_ms,up_mbps,down_mbps\n0,1,nan\n", ":2: down_mbps: must be a finite"),
        ("time_ms,up_mbps,down_mbps\n5,1,1\n5,1,1\n", ":3: time_ms must rise"),
        ("time_ms,up_mbps,down_mbps\n0,0,1\n5,0,1\n", "up_mbps is 0 throughout"),
        ("\x00\xff", "not a text file"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        read_bandwidth(str(tmp_path / "bad.csv"))
    assert str(tmp_path / "bad.csv") in str(error.value) and said in str(error.value)


def test_a_missing_file_ends_before_the_run_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv: no such bandwidth trace"):
        Simulation(Scenario(link=LinkSpec(trace=str(tmp_path / "none.csv"))), seed=0)
