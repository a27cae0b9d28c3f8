"""What holds messages: outages at known times, and hand-overs between cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import make_controller
from dsd_gym.config import ConfigError
from dsd_gym.network import make_link
from dsd_gym.network.handover import Cells
from dsd_gym.network.outages import Outages
from dsd_gym.records import Status
from dsd_gym.scenario import EdgeClass, Handover, Lengths, LinkSpec, Outage, Regime, Scenario, Workload
from dsd_gym.scenario_files import scenario_from
from dsd_gym.simulator import simulate

STEADY = LinkSpec(rtt_ms=20, jitter_ms=0, up_mbps=8)
WINDOWS = st.lists(st.builds(Outage, st.integers(0, 100), st.integers(1, 60)), max_size=8)


@given(WINDOWS, st.floats(0, 250))
def test_a_message_leaves_at_the_first_moment_outside_all_windows(windows: list[Outage], at_ms: float) -> None:
    leaves_ms = Outages(windows).clear_ms(at_ms)

    def out(now_ms: float) -> bool:
        return any(window.start_ms <= now_ms < window.start_ms + window.duration_ms for window in windows)

    assert not out(leaves_ms) and leaves_ms >= at_ms
    assert leaves_ms == at_ms or all(out(now_ms) for now_ms in np.linspace(at_ms, leaves_ms, 50, endpoint=False))


def test_outages_regimes_and_gaps_hold_a_message_until_all_are_over() -> None:
    regimes = (Regime("good", dwell_ms=300), Regime("stalled", dwell_ms=200, outage=True))
    outages = tuple(Outage(500.0 * start, 250) for start in range(1, 40))
    spec = replace(STEADY, regimes=regimes, outages=outages, handover=Handover(400, 150))
    link, cells, held = make_link(spec, 1, 2), Cells(Handover(400, 150), 1, 2), 0
    for now_ms in range(0, 19_000, 7):
        leaves_ms = now_ms + link.uplink(now_ms, 0)[0] - 10.0
        for clear_ms in (Outages(outages).clear_ms, cells.clear_ms, link.clear_ms):
            assert clear_ms(leaves_ms + 1e-6) == leaves_ms + 1e-6
        assert not link.regime(leaves_ms + 1e-6)[0].outage
        held += leaves_ms > now_ms + 1e-6
    assert 1000 < held < 2600


@pytest.mark.parametrize("start_ms", [0.0, 2000.0])
@pytest.mark.parametrize("queueing", ["none", "site"])
def test_an_outage_longer_than_the_run_leaves_requests_in_flight(start_ms: float, queueing: str) -> None:
    scenario = Scenario(
        edges=(EdgeClass(count=4),),
        link=replace(STEADY, outages=(Outage(start_ms, 1e12),), queueing=queueing),
        workload=Workload(rate_per_s=5.0),
        lengths=Lengths(50, 50, 20, 20),
        warm_up_ms=0,
        horizon_ms=4000,
        drain_ms=4000,
    )
    records = simulate(scenario, make_controller("static:4", 12))
    assert records.stopped_ms == 8000.0
    in_flight = [r for r in records.requests if r.status is Status.IN_FLIGHT]
    assert in_flight and all(r.arrival_ms >= start_ms - 1500 for r in in_flight)
    assert len(in_flight) == len(records.requests) if start_ms == 0.0 else len(in_flight) < len(records.requests)


def test_changes_of_cell_are_a_poisson_process_with_gaps() -> None:
    """200 devices for 200 s, 20,000 changes: gaps take gap / mean time, less their overlaps, of the time."""
    spec, held, asked = Handover(every_ms=2000, gap_ms=300), 0, 0
    for device in range(200):
        cells = Cells(spec, 3, device)
        for now_ms in range(5000, 200_000, 333):
            held += cells.clear_ms(now_ms) > now_ms
            asked += 1
        assert cells.clear_ms(0.0) == 0.0  # a run does not begin with a change
    assert held / asked == pytest.approx(1 - np.exp(-300 / 2000), rel=0.03)


def test_cells_multiply_the_round_trip_log_uniformly() -> None:
    """3,000 devices: standard error of a tenth's share half a point."""
    spec = replace(STEADY, handover=Handover(every_ms=1000, gap_ms=0, rtt_spread=3.0))
    for now_ms in (0.0, 9876.0):
        factors = np.array([make_link(spec, 0, device).uplink(now_ms, 0)[0] / 10.0 for device in range(3000)])
        place = 0.5 + np.log(factors) / (2 * np.log(3.0))
        assert place.min() >= 0 and place.max() <= 1
        assert np.histogram(place, bins=10, range=(0, 1))[0] / 3000 == pytest.approx(np.full(10, 0.1), abs=0.025)
    link = make_link(spec, 0, 5)
    assert 30 <= len({link.uplink(ms, 0)[0] for ms in range(0, 60_000, 10)}) <= 90  # about 60 cells in a minute


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"handover": {"every_ms": 9, "gap_ms": 9}}, "link.handover: gap_ms (9) must be less than every_ms (9)"),
        ({"handover": {"every_ms": 100, "gap_ms": 1, "rtt_spread": 0.5}}, "link.handover.rtt_spread: must be greater"),
        ({"outages": [{"start_ms": 5, "duration_ms": 0}]}, "link.outages.0.duration_ms: must be greater than 0"),
        ({"loss": 1.0}, "link.loss: must be less than 1"),
        ({"queueing": "room"}, "link.queueing: expected 'none', 'device' or 'site'"),
        ({"up_share": 1.5}, "link.up_share: must be less than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named(link: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        scenario_from({"link": link}, source="x.yaml")
    assert f"x.yaml: {said}" in str(error.value)
