"""The compiled twin and the SimPy simulator: the same luck and decisions leave the same records, to the bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import Case
from twins import Twins, compilable_case

from agents import make_controller
from agents.base import Controller
from dsd_gym.network import link
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records
from dsd_gym.scenario import Scenario, Workload
from dsd_gym.scenario_files import load_scenario, load_scenarios
from dsd_gym.simulator import simulate
from dsd_gym.target import filler
from dsd_gym.target.batch import Batch
from dsd_gym.vector import fleet, rows, running
from dsd_gym.vector.fleet import Ints
from dsd_gym.vector.layout import FINISHED, FloatArray, Log
from dsd_gym.vector.loading import Deployment
from dsd_gym.vector.running import simulate_each, simulate_many
from dsd_gym.vector.support import unsupported

SCENARIOS = 240


@settings(max_examples=SCENARIOS)
@given(st.integers(0, 2**31))
def test_random_deployments_leave_equal_records(seed: int) -> None:
    Twins([compilable_case(seed)]).run()


def watch(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return a count of what happens in the simulator from now on that not every deployment brings about."""
    met: Counter[str] = Counter()
    next_batch, send = filler.Filler.next_batch, link.Link._send

    def counted(self: filler.Filler) -> Batch:
        batch, queues = next_batch(self), self._queues
        met["windows left for another pass"] += bool(queues.windows)
        met["streams that take turns"] += 0 < len(batch.decoding) < len(queues.decoding)
        met["streams without room"] += not batch.decoding and bool(queues.decoding)
        met["prompts cut"] += any(request.prefilled > 0 for request, _ in batch.prefills)
        met["prompts that wait for memory"] += bool(queues.waiting)
        met["passes of all three kinds"] += bool(batch.prefills and batch.windows and batch.decoding)
        return batch

    def sent(self: link.Link, now_ms: float, *rest: float) -> tuple[float, float]:
        met["messages held by an outage"] += self.regime(now_ms)[0].outage
        return send(self, now_ms, *rest)

    monkeypatch.setattr(filler.Filler, "next_batch", counted)
    monkeypatch.setattr(link.Link, "_send", sent)
    return met


def test_deployments_of_all_sizes_side_by_side_leave_equal_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows grow while others are under way; and what the examples are meant to meet does happen in them."""
    met = watch(monkeypatch)
    twins = Twins([compilable_case(seed) for seed in range(60)])
    twins.run()
    scenarios = [simulation.scenario for simulation in twins.simulations]
    assert len({scenario.workload.kind for scenario in scenarios}) == 6
    assert {scenario.acceptance.profile for scenario in scenarios} == {"constant", "chat", "code", "recorded"}
    assert len(met) == 7 and min(met.values()) > 5, met
    assert all(twins.met[name] > 5 for name in ("finished", "rejected", "returns", "stops", "waits", "cut")), twins.met


def test_rows_that_begin_as_small_as_can_be_grow_to_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one entry on all arrays are doubled again and again, so each is full at some event."""
    new_log = rows.new_log

    def tiny_log(size: int, old: Log | None = None) -> Log:
        return new_log(2 if old is None else size, old)

    for name in rows._FIRST_SIZES:
        monkeypatch.setitem(rows._FIRST_SIZES, name, 1)
    monkeypatch.setattr(rows, "new_log", tiny_log)
    twins = Twins([compilable_case(seed) for seed in range(100, 140)])
    twins.run()
    world = twins.fleet._world
    grown = (world.messages, world.events, world.flights, world.requests, world.devices)
    assert min(array.shape[1] for array in grown) >= 8


@pytest.mark.parametrize("scenario", load_scenarios(["held_out"], {}), ids=lambda scenario: scenario.name)
def test_the_held_out_deployments_are_compiled_and_equal(scenario: Scenario) -> None:
    assert unsupported(scenario) is None
    Twins([Case(replace(scenario, max_requests=40), "random", 1)]).run()


class Fickle(Controller):
    """A rule that depends on the observation alone, for one and for many."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the decision for one request."""
        windows, thresholds = self.decide_many(np.array([observation], np.float64))
        return Decision(int(windows[0]), float(thresholds[0]) if thresholds[0] >= 0 else None)

    def decide_many(self, seen: FloatArray) -> tuple[Ints, FloatArray]:
        """Return decisions that change from token to token."""
        mixed = np.array(7 * seen[:, 23] + 3 * seen[:, 24] + seen[:, 15], np.int64)  # context, committed, queue wait
        return mixed % 6, np.where(mixed % 4 == 0, 0.4, -1.0)


def in_order(records: Records) -> Records:
    ordered = sorted(records.requests, key=lambda request: (request.arrival_ms, request.stream))
    return replace(records, requests=ordered)


def test_whole_runs_leave_the_records_of_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """More runs than rows, of several deployments; targets' work, requests and what was in flight included."""
    monkeypatch.setattr(running, "WIDTH", 7)
    names = "held_out/mixed_fleet", "held_out/overload", "held_out/lan_lab"
    changed = {"warm_up_ms": 1000, "horizon_ms": 3000, "drain_ms": 500}
    cells = [(load_scenario(name, changed), seed) for seed in range(3) for name in names]
    cells += [(replace(compilable_case(seed).scenario, max_window=5), seed) for seed in range(60)]
    cells.insert(20, (replace(cells[0][0], workload=Workload(rate_per_s=1e-9)), 0))  # in which nothing happens
    told = dict(simulate_many(cells, Fickle()))
    assert sorted(told) == list(range(len(cells)))
    for (scenario, seed), records in zip(cells, (told[run] for run in range(len(cells))), strict=True):
        assert records == in_order(simulate(scenario, Fickle(), seed))
    assert sum(target.iterations > 0 for records in told.values() for target in records.targets) > 30
    statuses = {request.status for records in told.values() for request in records.requests}
    assert statuses == {"finished", "rejected", "in_flight"}


def test_a_window_past_a_deployments_longest_is_refused_as_in_the_simulator() -> None:
    cells = [(replace(compilable_case(seed).scenario, max_window=longest), 0) for seed, longest in ((1, 6), (2, 4))]
    with pytest.raises(ValueError, match=r"window 5 is outside 0\.\.4"):
        list(simulate_many(cells, Fickle()))


def test_where_one_window_is_refused_no_deployment_goes_on() -> None:
    two, single = fleet.Fleet(2), Deployment(load_scenario("train/single"))
    for place in range(2):
        two.load(place, single, place)
    two.start(np.arange(2))
    before = two.now_ms.copy(), two.state.copy()
    for wrong in (-1, single.scenario.max_window + 1):
        with pytest.raises(ValueError, match=f"window {wrong} is outside"):
            two.answer(np.array([4, wrong]))
        np.testing.assert_array_equal(two.now_ms, before[0])
        assert (two.state == before[1]).all()
    two.answer(np.array([4, 4]))
    assert (two.now_ms > before[0]).all()


def test_a_rounds_team_ms_are_those_that_all_live_requests_lived_meanwhile() -> None:
    """Overlaps of the round with every request's life, from arrival to last token; nobody is rejected here."""
    lively = {"workload": {"rate_per_s": 12}, "horizon_ms": 4000, "warm_up_ms": 0, "drain_ms": 1e6}
    one, told = fleet.Fleet(1), []
    one.load(0, Deployment(load_scenario("train/single", lively)), 3)
    one.start(np.array([0]))
    while not one.over[0]:
        one.answer(np.array([4]))
        told += one.rounds[["start_ms", "end_ms", "team_ms"]].tolist()
    requests = one.requests(0)
    assert len(requests) > 20 and (requests["status"] == FINISHED).all()
    for start_ms, end_ms, team_ms in told:
        overlaps = np.minimum(requests["finish_ms"], end_ms) - np.maximum(requests["arrival_ms"], start_ms)
        assert team_ms == pytest.approx(overlaps.clip(min=0.0).sum(), rel=1e-9)
    assert max(team_ms / (end_ms - start_ms) for start_ms, end_ms, team_ms in told) > 5.0


@pytest.mark.parametrize("spec", ["ucb", "awc", "sglang"])
def test_a_controller_that_remembers_is_told_and_asked_as_in_the_simulator(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh one for each run, whatever was at its place before."""
    monkeypatch.setattr(running, "WIDTH", 5)
    cells = [(replace(compilable_case(seed).scenario, max_window=5), seed) for seed in range(24)]
    told = dict(simulate_each(cells, lambda: make_controller(spec, 5)))
    for run, (scenario, seed) in enumerate(cells):
        assert told[run] == in_order(simulate(scenario, make_controller(spec, 5), seed))


def test_a_remembering_controller_sees_counts_and_flags_of_the_simulators_types() -> None:
    class Looks(Controller):
        def decide(self, observation: Observation, stream: int) -> Decision:
            kinds.add(tuple(map(type, observation)))
            return Decision(3)

    kinds: set[tuple[type, ...]] = set()
    scenario = load_scenario("held_out/lan_lab", {"warm_up_ms": 0, "horizon_ms": 2000})
    list(simulate_each([(scenario, 0)], Looks))
    assert kinds == {tuple(get_type_hints(Observation).values())}
