"""Fleets: tiers and regions that some reach and some do not, pairs with their own acceptance, names that must fit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from agents import make_controller
from agents.base import Controller
from dsd_gym.config import ConfigError
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records
from dsd_gym.reference import mean_acceptance, reference_ms, saturation_rate
from dsd_gym.routing import RULES
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, LinkSpec, Pair, Scenario, TargetClass, Workload
from dsd_gym.scenario_files import scenario_from
from dsd_gym.simulator import simulate

SMALL = TargetClass("h100", "Llama-3.1-8B", 1, name="small")
LARGE = TargetClass("h100", "Llama-3.1-70B", 4, name="large")
PHONES = EdgeClass("phone_fast/1B", 6, name="phones", targets=("small",))
LAPTOPS = EdgeClass("l40s/Llama-3.2-1B", 6, name="laptops")
STEADY = LinkSpec(rtt_ms=20, jitter_ms=0)
FLEET = Scenario(
    edges=(PHONES, LAPTOPS),
    link=STEADY,
    targets=(replace(SMALL, count=2), replace(LARGE, count=2)),
    workload=Workload(rate_per_s=20.0),
    lengths=Lengths(60, 50, 20, 16),
    warm_up_ms=0,
    horizon_ms=4000,
)


def run(scenario: Scenario, spec: str = "static:3") -> Records:
    return simulate(scenario, make_controller(spec, scenario.max_window), 0)


@pytest.mark.parametrize("router", RULES)
def test_nobody_is_sent_where_they_cannot_go(router: str) -> None:
    records = run(replace(FLEET, router=router))  # type: ignore[arg-type]
    reached = defaultdict(set)
    for request in records.requests:
        reached[request.device_class].add(request.target)
    assert reached[0] <= {0, 1} and (router == "global" or reached[1] & {2, 3})  # there the small ones are done first
    assert FLEET.reachable == ((0,), (0, 1))


def test_classes_that_reach_the_same_targets_take_turns_together() -> None:
    edges = (replace(PHONES, targets=None), LAPTOPS)
    records = run(replace(FLEET, edges=edges, router="round_robin"))
    in_order = sorted(records.requests, key=lambda request: request.arrival_ms)
    assert [request.target for request in in_order] == [turn % 4 for turn in range(len(in_order))]


def test_a_region_is_a_longer_link() -> None:
    """40 ms to the region equal 40 ms more on the link, to rounding, in all that happens and all that is measured."""
    link = LinkSpec(rtt_ms=20, jitter_ms=4, up_mbps=5)
    one = replace(FLEET, edges=(LAPTOPS,), targets=(LARGE,), link=link)
    far = run(replace(one, targets=(replace(LARGE, region_rtt_ms=40.0),)))
    long = run(replace(one, link=replace(link, rtt_ms=60.0)))
    assert len(far.rounds) == len(long.rounds) > 100
    for ours, theirs in zip(far.rounds, long.rounds, strict=True):
        assert tuple(ours) == pytest.approx(tuple(theirs), abs=1e-6)
    for name in ("stream", "arrival_ms", "first_token_ms", "finish_ms"):
        assert [getattr(r, name) for r in far.requests] == pytest.approx([getattr(r, name) for r in long.requests])


class Shown(Controller):
    """A fixed window, and the round trips that each stream was shown."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.rtt_ms: dict[int, set[float]] = defaultdict(set)

    def decide(self, observation: Observation, stream: int) -> Decision:
        self.rtt_ms[stream].add(round(observation.smoothed_rtt_ms, 6))
        return Decision(self.window)


@pytest.mark.parametrize("window", [0, 3])
def test_an_edge_measures_each_region_by_itself(window: int) -> None:
    """Without jitter all round trips to a region are equal, smoothed or not."""
    targets = (replace(SMALL, region_rtt_ms=0.0), replace(LARGE, region_rtt_ms=70.0))
    fleet = replace(FLEET, edges=(replace(LAPTOPS, count=3),), targets=targets, router="round_robin")
    records = simulate(fleet, shown := Shown(window), 0)
    target_of = {request.stream: request.target for request in records.requests}
    assert len({(request.device, request.target) for request in records.requests}) == 6  # each device goes to both
    assert all(seen == {20.0 + 70.0 * target_of[stream]} for stream, seen in shown.rtt_ms.items())
    assert all(r.rtt_ms == pytest.approx(20.0 + 70.0 * target_of[r.stream]) for r in records.rounds)


def test_a_pair_has_its_own_acceptance() -> None:
    """Constant .9 and .2 against .6 for the others; some 500 drafts each and more: standard error 2 points."""
    pairs = (
        Pair("laptops", "large", Acceptance("constant", 0.2)),
        Pair("phones", "small", Acceptance("constant", 0.9)),
    )
    records = run(replace(FLEET, pairs=pairs, acceptance=Acceptance("constant", 0.6), router="round_robin"), "static:1")
    pair_of = {r.stream: (r.device_class, r.target // 2) for r in records.requests}
    drafted, accepted = defaultdict(int), defaultdict(int)
    for round in records.rounds:
        drafted[pair_of[round.stream]] += round.drafted
        accepted[pair_of[round.stream]] += round.accepted
    shares = {pair: accepted[pair] / drafted[pair] for pair in drafted}
    assert shares == pytest.approx({(0, 0): 0.9, (1, 0): 0.6, (1, 1): 0.2}, abs=0.06)


def test_a_better_pair_accepts_what_a_worse_one_does_and_more() -> None:
    """The same luck decides, whatever a request meets: at equal arrivals no request takes more rounds."""

    def rounds(probability: float) -> dict[int, int]:
        pairs = (Pair("laptops", "large", Acceptance("constant", probability)),)
        counts: dict[int, int] = defaultdict(int)
        for round in run(replace(FLEET, edges=(LAPTOPS,), targets=(LARGE,), pairs=pairs)).rounds:
            counts[round.stream] += 1
        return counts

    worse, better = rounds(0.3), rounds(0.8)
    assert all(better[stream] <= worse[stream] for stream in worse) and sum(better.values()) < 0.7 * sum(worse.values())


def test_yardsticks_take_what_is_reached() -> None:
    """The reference takes each edge's best target, its region included; what nobody reaches carries nothing."""
    only_small = replace(FLEET, edges=(PHONES,))
    alone = replace(only_small, targets=FLEET.targets[:1])
    assert reference_ms(only_small) == reference_ms(alone)
    assert saturation_rate(only_small, 16, 50) == saturation_rate(alone, 16, 50) < saturation_rate(FLEET, 16, 50)
    paired = (Pair("laptops", "large", Acceptance("constant", 0.97)),)
    good = replace(FLEET, edges=(LAPTOPS,), targets=(LARGE,), pairs=paired, link=LinkSpec(0, 0))
    assert mean_acceptance(good, 0, 0) == pytest.approx(0.97)
    far = replace(good, targets=(replace(LARGE, region_rtt_ms=10.0),))
    assert reference_ms(far) == pytest.approx(reference_ms(replace(good, link=LinkSpec(10, 0))))
    assert reference_ms(far) > reference_ms(good)


NAMED: dict[str, Any] = {
    "edges": [{"name": "phones", "targets": ["small"]}, {"name": "laptops"}],
    "targets": [{"name": "small"}, {"name": "large"}],
    "pairs": [{"edge": "phones", "target": "small", "acceptance": {"profile": "code"}}],
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edges.0.targets": ["smal"]}, "edges.0.targets: no 'smal' among the names of targets; did you mean small?"),
        ({"edges.0.targets": []}, "edges.0.targets: names nobody to serve this class"),
        ({"edges.1.name": "phones"}, "edges.1.name: phones stands twice"),
        ({"targets.1.name": "small"}, "targets.1.name: small stands twice"),
        ({"pairs.0.edge": "phone"}, "pairs.0.edge: no 'phone' among the names of edges; did you mean phones?"),
        ({"pairs.0.target": "huge"}, "pairs.0.target: no 'huge' among the names of targets; known: small, large"),
        ({"pairs.0.target": "large"}, "pairs.0: phones does not reach large"),
        ({"pairs": NAMED["pairs"] * 2}, "pairs.1: phones and small stand twice"),
        ({"targets": [{}]}, "edges.0.targets: no 'small' among the names of targets; none of the targets has a name"),
        ({"router": "jsq3"}, "router: expected"),
    ],
)
def test_a_name_that_does_not_fit_is_one_clear_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario_from(NAMED, changes, source="fleet.yaml")
    assert str(caught.value).startswith("fleet.yaml: ") and says in str(caught.value)


def test_a_tier_that_nobody_reaches_is_no_error() -> None:
    scenario = scenario_from(NAMED, {"edges.1.targets": ["small"]}, source="fleet.yaml")
    assert scenario.reachable == ((0,), (0,))
    busy = run(replace(scenario, horizon_ms=3000.0, warm_up_ms=0.0)).targets
    assert busy[0].iterations and not busy[1].iterations
