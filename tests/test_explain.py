"""What a policy has learned: what it heeds, and the tree distilled from it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from agents import make_controller
from dsd_gym.explain.acts import ByPolicy, ByPolicyMisled, ByTree
from dsd_gym.explain.distil import central_window, deployments, distil, fit, leaf_shares
from dsd_gym.explain.groups import MASKED_BY, TOGETHER, flags_kept, groups, singles
from dsd_gym.explain.importance import Importance, importances
from dsd_gym.explain.runs import Work, run, run_each
from dsd_gym.observation import FEATURE_NAMES, FEATURES, Observation
from dsd_gym.records import Decision, Round
from dsd_gym.scenario import Acceptance, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.scenario_files import load_scenario
from dsd_gym.vector.support import unsupported

FAR_MS, LIKELY = 40.0, 0.62
NEAR = Scenario(
    name="near",
    warm_up_ms=500.0,
    horizon_ms=3000.0,
    drain_ms=6000.0,
    max_window=12,
    link=LinkSpec(rtt_ms=10.0, jitter_ms=1.0),
    workload=Workload(rate_per_s=5.0),
    lengths=Lengths(prompt_mean=50.0, prompt_median=40.0, output_mean=24.0, output_median=24.0),
    acceptance=Acceptance(profile="chat"),
)
NEARER = replace(NEAR, name="nearer", link=LinkSpec(rtt_ms=5.0, jitter_ms=1.0))
FAR = replace(NEAR, name="far", link=LinkSpec(rtt_ms=90.0, jitter_ms=1.0))
PLACES = (NEAR, NEARER, FAR)


class Rule:
    """The cloud when it is far, else 8 or 3 by acceptance: three leaves."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        if observation.smoothed_rtt_ms > FAR_MS:
            return Decision(0)
        return Decision(8 if observation.acceptance_estimate > LIKELY else 3)

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        return np.array([self.decide(Observation(*row), 0).window for row in seen.tolist()]), None

    def begin(self, stream: int, device: int, target: int) -> None: ...

    def record(self, round: Round) -> None: ...

    def forget(self, stream: int) -> None: ...


def make(spec: str, max_window: int) -> Rule:
    return Rule()


# What it heeds


@pytest.fixture(scope="module")
def heeded() -> dict[str, Importance]:
    return {found.name: found for found in importances("rule", make, PLACES, range(4))}


def test_what_the_policy_ignores_has_no_importance(heeded: dict[str, Importance]) -> None:
    used = {"smoothed_rtt_ms", "acceptance_estimate"}
    ignored = [found for found in heeded.values() if not used.intersection(found.features)]
    assert len(ignored) >= len(FEATURE_NAMES) - 8
    for found in ignored:
        assert (found.changed, *found.latency) == (0.0, 1.0, 1.0, 1.0), found.name


def test_the_share_of_decisions_changed_is_that_of_other_places_in_the_pool(heeded: dict[str, Importance]) -> None:
    (own,) = run_each([Work([(scenario, seed) for scenario in PLACES for seed in range(4)], "rule", make)], 1)
    far = sum(seen.decisions for seen in own[8:]) / sum(seen.decisions for seen in own)  # so small, all are in the pool
    # Near, a decision changes where it draws one that is far; far, where it draws one that is near.
    assert heeded["smoothed_rtt_ms"].changed == pytest.approx((far + far + (1.0 - far)) / 3.0, abs=0.04)
    assert heeded["round trip"].changed == pytest.approx((1.0 + far) / 3.0, abs=0.04)
    assert heeded["acceptance_estimate"].changed > 0.0
    assert heeded["round trip"].latency.differs


def test_groups_come_first_and_the_costliest_first(heeded: dict[str, Importance]) -> None:
    order = [(not found.is_group, -found.latency.estimate) for found in heeded.values()]
    assert order == sorted(order)


def test_features_of_a_group_are_those_of_one_other_decision() -> None:
    pool = np.zeros((2, len(FEATURE_NAMES)))
    columns = [FEATURE_NAMES.index(name) for name in ("last_rtt_ms", "smoothed_rtt_ms")]

    class Witness(Rule):
        def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
            assert set(map(tuple, seen[:, columns].tolist())) == {(1.0, 2.0), (3.0, 4.0)}
            assert not np.delete(seen, columns, axis=1).any()
            return np.full(len(seen), 4), None

    pool[:, columns] = [(1.0, 2.0), (3.0, 4.0)]
    act, seen = ByPolicyMisled(("last_rtt_ms", "smoothed_rtt_ms"), pool), np.zeros((50, len(FEATURE_NAMES)))
    windows, _ = act(Witness(), seen, np.random.default_rng(0))
    assert (windows == 4).all() and not seen.any()


def test_what_is_not_there_stays_away_and_what_is_comes_from_where_it_is() -> None:
    value, flag = (FEATURE_NAMES.index(name) for name in ("last_mean_confidence", "has_last_confidence"))
    pool, seen = np.zeros((4, len(FEATURE_NAMES))), np.zeros((60, len(FEATURE_NAMES)))
    pool[:, value], pool[:, flag] = (0.0, 0.7, 0.0, 0.9), (0.0, 1.0, 0.0, 1.0)
    seen[:40, value], seen[:40, flag] = 0.5, 1.0

    class Witness(Rule):
        def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
            assert set(seen[:40, value]) == {0.7, 0.9} and (seen[:40, flag] == 1.0).all()
            assert not seen[40:].any()
            return np.full(len(seen), 4), None

    act = ByPolicyMisled(("last_mean_confidence",), pool, flags_kept(("last_mean_confidence",)))
    act(Witness(), seen, np.random.default_rng(0))


def test_every_feature_is_asked_about_and_flags_are_kept_or_replaced_with_what_they_mask() -> None:
    flags = set(MASKED_BY.values())
    assert set(singles()) == set(FEATURE_NAMES) - flags
    assert flags.union(MASKED_BY).union(*TOGETHER.values()) <= set(FEATURE_NAMES)
    assert flags_kept(("last_window", "all_accepted")) == ("has_last_round",)
    assert flags_kept(TOGETHER["acceptance so far"]) == flags_kept(TOGETHER["mode and catch-up"]) == ()
    assert singles((*FEATURE_NAMES, "weather"))["weather"] == ("weather",)
    assert groups(("last_rtt_ms", "smoothed_rtt_ms", "x")) == {"round trip": ("last_rtt_ms", "smoothed_rtt_ms")}


# The tree


def test_a_threshold_rule_is_recovered() -> None:
    cells = [(scenario, seed) for scenario in (NEAR, FAR) for seed in range(3)]
    for trial in distil("rule", make, cells, 16):
        assert (trial.tree.leaves, trial.agreement, trial.latency) == (3, 1.0, 1.0)
        asked = {FEATURE_NAMES[f]: t for f, t in zip(trial.tree.feature, trial.tree.threshold, strict=True) if f >= 0}
        assert set(asked) & {"acceptance_estimate"} and asked["acceptance_estimate"] == pytest.approx(LIKELY, abs=0.02)
        (distance,) = set(asked) - {"acceptance_estimate"}  # any feature that tells near from far
        assert distance == "report_age_ms" or "rtt" in distance


def test_later_rounds_fit_what_earlier_trees_met_too() -> None:
    cells = [(NEAR, 0), (NEAR, 1)]
    trials = distil("leviathan", make_controller, cells, 2)
    counts = [trial.rows for trial in trials]
    assert counts == sorted(set(counts))
    (seen,) = run_each([Work(cells, "leviathan", make_controller, ByTree(trials[0].tree))], 1)
    assert counts[1] - counts[0] == sum(run.decisions for run in seen)
    assert [trial.tree for trial in distil("leviathan", make_controller, cells, 2)] == [trial.tree for trial in trials]


def test_a_tree_never_has_more_leaves_than_asked_for() -> None:
    random = np.random.default_rng(0)
    rows, windows = random.random((500, len(FEATURES))), random.integers(13, size=500)
    for leaves in (2, 5, 16):
        tree = fit(rows, windows, leaves)
        assert 2 <= tree.leaves <= leaves
        assert set(tree.window) <= set(range(13))


def test_thresholds_stay_inside_what_features_can_be() -> None:
    rows = np.zeros((400, len(FEATURES)))
    place = FEATURE_NAMES.index("last_rtt_ms")
    rows[:200, place], rows[200:, place] = 3999.0, 1e6
    tree = fit(rows, np.repeat([4, 0], 200), 2)
    assert 3999.0 < tree.threshold[0] < FEATURES["last_rtt_ms"].high
    assert (tree.choose_many(rows) == np.repeat([4, 0], 200)).all()


def test_a_leaf_answers_with_the_window_nearest_to_all() -> None:
    for windows in np.random.default_rng(0).integers(13, size=(50, 9)):
        distances = [np.abs(windows - window).sum() for window in range(13)]
        assert distances[central_window(windows)] == min(distances)
    assert central_window(np.array([0, 4])) == 0


def test_leaf_shares_add_up() -> None:
    rows = np.random.default_rng(0).random((300, len(FEATURES)))
    tree = fit(rows, (rows[:, 0] * 12).astype(np.int64), 6)
    shares = leaf_shares(tree, rows)
    assert sum(shares) == pytest.approx(1.0)
    assert all(shares[node] == 0.0 for node, feature in enumerate(tree.feature) if feature >= 0)


def test_a_tree_that_acts_is_asked_where_it_goes_itself() -> None:
    tree = fit(np.zeros((2, len(FEATURES))), np.array([5, 5]), 2)
    (seen,) = run(Work([(NEAR, 0)], "rule", make, ByTree(tree), keep=10_000))
    assert (seen.done == 5).all() and set(seen.meant) == {3, 8}
    assert seen.differing == seen.decisions == len(seen.rows)


def test_the_simulator_serves_where_the_twin_does_not_and_gives_the_same() -> None:
    ordered = replace(NEAR, targets=(replace(NEAR.targets[0], order="priority"),))  # all are equal: no other order
    assert unsupported(NEAR) is None and unsupported(ordered) is not None
    tree = fit(np.zeros((2, len(FEATURES))), np.array([5, 5]), 2)
    for act in (ByPolicy(), ByTree(tree)):
        works = [Work([(place, s) for s in range(3)], "rule", make, act, 50) for place in (NEAR, ordered)]
        twin, alone = run_each(works, 1)
        for one, other in zip(twin, alone, strict=True):
            assert one[:3] == other[:3] and one.decisions > 50
            for ours, theirs in zip(one[3:], other[3:], strict=True):
                assert (ours == theirs).all() and len(ours) == 50


def test_a_family_gives_deployments_a_scenario_seeds_and_a_folder_both() -> None:
    drawn, seeds = deployments("train/family", 3), deployments("held_out/lan_lab", 3)
    assert len({scenario.link.rtt_ms for scenario, _ in drawn}) == 3
    assert {scenario for scenario, _ in seeds} == {load_scenario("held_out/lan_lab")}
    assert len({seed for _, seed in seeds}) == 3
    folder = deployments("held_out", 20)
    assert len({scenario.name for scenario, _ in folder}) == len({scenario.name for scenario, _ in folder[:8]}) == 8
    assert len({seed for _, seed in folder}) == 20
