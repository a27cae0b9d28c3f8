"""Requests and the deployments they come to: rates, bursts, lengths, users; and every scenario that ships loads."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest

from agents import make_controller
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.laws import arrival_law, factor_at
from dsd_gym.reference import reference_ms, saturation_rate
from dsd_gym.scenario import Lengths, Piece, Scenario, Workload
from dsd_gym.scenario_files import SCENARIO_FOLDER
from dsd_gym.simulator import simulate
from dsd_gym.workload import Population

SHIPPED = sorted(str(p.relative_to(SCENARIO_FOLDER).with_suffix("")) for p in SCENARIO_FOLDER.rglob("*.yaml"))
HELD_OUT = [name for name in SHIPPED if name.startswith("held_out/")]


def times_ms(workload: Workload, until_ms: float, seed: int = 0) -> np.ndarray:
    arrivals = Population(Scenario(workload=workload), seed).arrivals()
    return np.array([a.arrival_ms for a in takewhile(lambda a: a.arrival_ms < until_ms, arrivals)])


@pytest.mark.parametrize(("kind", "cv"), [("poisson", 1.0), ("bursty", 2.0), ("bursty", 4.0)])
def test_rate_and_variation_of_gaps(kind: str, cv: float) -> None:
    """10 000 gaps: a hyperexponential's deviation is known to some 5 %."""
    arrivals = times_ms(Workload(kind=kind, rate_per_s=20.0, burst_cv=cv), 500_000.0)  # type: ignore[arg-type]
    gaps = np.diff(arrivals)
    assert len(arrivals) / 500.0 == pytest.approx(20.0, rel=0.03 * cv)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.04 if kind == "poisson" else 0.1)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.04


def test_load_is_a_share_of_what_the_targets_carry() -> None:
    scenario = Scenario(workload=Workload(load=0.5))
    arrivals = list(islice(Population(scenario, 0).arrivals(), 4000))
    rate = 0.5 * saturation_rate(scenario, scenario.lengths.output_mean, scenario.lengths.prompt_mean)
    assert 4000 / (arrivals[-1].arrival_ms / 1000.0) == pytest.approx(rate, rel=0.05)


def test_piecewise_rates_follow_their_pieces_and_repeat() -> None:
    workload = Workload("piecewise", rate_per_s=10.0, pieces=(Piece(3000, 1), Piece(1000, 5), Piece(1000, 0)))
    phases = times_ms(workload, 500_000.0) % 5000
    counts = [((low <= phases) & (phases < high)).sum() for low, high in ((0, 3000), (3000, 4000), (4000, 5000))]
    assert counts[0] / 300.0 == pytest.approx(10.0, rel=0.06)  # 100 repeats of 3 s
    assert counts[1] / 100.0 == pytest.approx(50.0, rel=0.06)
    assert counts[2] == 0


def test_diurnal_rate_swings_about_its_mean() -> None:
    workload = Workload("diurnal", rate_per_s=20.0, swing=0.8, period_ms=10_000.0)
    arrivals = times_ms(workload, 400_000.0)
    assert len(arrivals) / 400.0 == pytest.approx(20.0, rel=0.04)
    swing = 2 * np.sin(2 * np.pi * arrivals / 10_000.0).mean()
    assert swing == pytest.approx(0.8, abs=0.05)
    law = arrival_law(Scenario(workload=workload))
    assert max(factor_at(law, ms) for ms in range(0, 10_000, 100)) == pytest.approx(1.8, abs=1e-3)


def test_lengths_have_their_mean_and_median_and_are_clipped() -> None:
    lengths = Lengths(300, 200, 128, 100, max_prompt=8000, max_output=90)
    population = Population(Scenario(lengths=lengths), 3)
    requests = [population.request(stream, 0.0) for stream in range(5000)]
    prompts, outputs = np.array([(r.prompt_tokens, r.output_tokens) for r in requests]).T
    assert prompts.mean() == pytest.approx(300, rel=0.05) and np.median(prompts) == pytest.approx(200, rel=0.05)
    assert outputs.max() == 90 and outputs.min() >= 1
    constant = Population(Scenario(lengths=Lengths(66, 66, 1, 1)), 3).request(5, 0.0)
    assert (constant.prompt_tokens, constant.output_tokens) == (66, 1)


def test_requests_go_round_all_devices() -> None:
    devices = [a.device for a in islice(Population(Scenario(), 1).arrivals(), 64)]
    assert sorted(devices[:32]) == list(range(32)) and devices[32:] == devices[:32] != list(range(32))


def test_closed_loop_never_has_more_than_its_users_live_and_thinks_between() -> None:
    workload = Workload("closed", users=5, think_ms=800.0)
    scenario = replace(Scenario(), workload=workload, horizon_ms=60_000.0, lengths=Lengths(50, 50, 20, 20))
    requests = simulate(scenario, make_controller("static:3", 12)).requests
    changes = sorted([(r.arrival_ms, 1) for r in requests] + [(r.finish_ms or 0.0, -1) for r in requests])
    live = np.cumsum([change for _, change in changes])
    assert live.max() == 5 and live.min() == 0 and live[-1] == 0
    by_user = [sorted((r for r in requests if r.stream % 5 == user), key=lambda r: r.stream) for user in range(5)]
    thinks = [b.arrival_ms - (a.finish_ms or 0.0) for own in by_user for a, b in pairwise(own)]
    assert min(thinks) > 0 and np.mean(thinks) == pytest.approx(800.0, rel=0.25)  # some 150 pauses: error 8 %


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_loads(name: str) -> None:
    loaded = load_scenario_or_family(name)
    scenario = loaded.base if isinstance(loaded, Family) else loaded
    assert scenario.description and scenario.name == Path(name).name and reference_ms(scenario) > 0


def test_eight_deployments_are_held_out_and_one_is_for_throughput() -> None:
    held_out = [load_scenario_or_family(name) for name in HELD_OUT]
    assert {Path(name).name for name in HELD_OUT} == {
        *("lan_lab", "metro_wifi", "mobile_4g", "cross_region", "flash_crowd", "mixed_fleet", "overload", "dsd_paper")
    }
    assert [s.name for s in held_out if isinstance(s, Scenario) and s.score == "throughput"] == ["overload"]


def test_training_never_draws_a_held_out_deployment() -> None:
    family = load_scenario_or_family("train/family")
    assert isinstance(family, Family)
    drawn = [family.sample(np.random.default_rng(seed)) for seed in range(60)]
    training = [*drawn, family.base, load_scenario_or_family("train/single")]

    def figures(s: Scenario) -> tuple[object, ...]:
        return s.edges, s.link.rtt_ms, s.link.jitter_ms, s.targets, s.lengths, replace(s.workload, trace=None)

    held_out = [load_scenario_or_family(name) for name in HELD_OUT]
    for theirs in held_out:
        assert isinstance(theirs, Scenario)
        for ours in training:
            assert isinstance(ours, Scenario)
            assert ours.name != theirs.name and figures(ours) != figures(theirs)
            assert (ours.targets, ours.lengths) != (theirs.targets, theirs.lengths)
