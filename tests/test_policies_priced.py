"""Policies that see what each window is expected to cost."""

from __future__ import annotations

from dataclasses import asdict
from math import log
from pathlib import Path

import numpy as np
import pytest
from observed import observed
from test_policies import make_header, make_layers
from test_vector_rules import observations

from agents.learned import Learned
from dsd_gym.observation import FEATURES, Observation, scale_feature
from dsd_gym.priced_inputs import PRICED_INPUTS, WINDOWS, priced, priced_many
from dsd_gym.pricing import cloud_ms_per_token, round_ms_per_token
from dsd_gym.window_tree import LEAF, WindowTree
from policies import (
    PRICED,
    Policy,
    PolicyError,
    PolicyHeader,
    PolicyRunner,
    TreeRunner,
    load_policy,
    save_policy,
    tree_policy,
)
from policies.kinds import KINDS

BUSY = observed(batch_size=6, marginal_ms_per_token=0.4, rtt_deviation_ms=3.0)
ALL = FEATURES | PRICED_INPUTS


def make_priced(*hidden: int) -> Policy:
    header = make_header(
        kind=PRICED,
        feature_names=tuple(ALL),
        feature_scaling=KINDS[PRICED].scaling(),
        feature_ranges={name: (0.0, feature.high) for name, feature in ALL.items()},
    )
    return Policy(header, make_layers(len(ALL), *hidden, header.max_window + 1))


def test_the_inputs_are_costs_of_the_windows_over_the_least() -> None:
    seen = dict(zip(PRICED_INPUTS, priced(BUSY), strict=True))
    costs = {window: round_ms_per_token(BUSY, window, 1.0) for window in range(1, 17)}
    best = min(costs, key=lambda window: costs[window])
    assert 1 < best < 16  # or this moment would show little
    assert seen["best_window"] == best / 16
    assert seen["best_ms_per_token"] == pytest.approx(scale_feature(costs[best], 4000.0, 1.0))
    assert seen["cloud_over_edge"] == pytest.approx(0.5 + 0.5 * log(cloud_ms_per_token(BUSY, 1.0) / costs[best]))
    for window in WINDOWS:
        assert seen[f"excess_{window}"] == pytest.approx(log(costs[window] / costs[best]), abs=1e-12)


def test_dear_delay_makes_shorter_windows_and_is_priced_at_three() -> None:
    seen = dict(zip(PRICED_INPUTS, priced(BUSY), strict=True))
    dear = min(range(1, 17), key=lambda window: round_ms_per_token(BUSY, window, 3.0))
    assert seen["best_window_dear"] == dear / 16 < seen["best_window"]
    ratio = cloud_ms_per_token(BUSY, 3.0) / round_ms_per_token(BUSY, dear, 3.0)
    assert seen["cloud_over_edge_dear"] == pytest.approx(0.5 + 0.5 * log(ratio))


def test_inputs_of_many_are_those_of_each_alone_to_the_bit_and_scaled() -> None:
    rows = observations(500)
    rows[0] = 0.0  # nothing known yet
    many = priced_many(rows)
    alone = np.array([priced(Observation(*row)) for row in rows.tolist()], np.float32)
    np.testing.assert_array_equal(many, alone)
    assert ((many >= 0.0) & (many <= 1.0)).all()


def test_many_at_once_are_decided_as_each_alone(tmp_path: Path) -> None:
    save_policy(make_priced(16, 16), tmp_path / "p.safetensors")
    learned, rows = Learned(load_policy(tmp_path / "p.safetensors")), observations(300)
    windows, _ = learned.decide_many(rows)
    assert windows.tolist() == [learned.decide(Observation(*row), 0).window for row in rows.tolist()]
    assert len(set(windows.tolist())) > 3


def test_the_inputs_matter_to_the_decision() -> None:
    policy = make_priced(16)
    policy.layers[0].weight[:, : len(FEATURES)] = 0.0
    windows, _, _ = PolicyRunner(policy).decide_many(observations(300))
    assert len(set(windows.tolist())) > 3


def test_a_format_before_priced_policies_has_none() -> None:
    values = asdict(make_priced(4).header) | {"format_version": 3}
    with pytest.raises(PolicyError, match="unknown kind 'priced' of format 3"):
        PolicyHeader.from_dict(values)


def test_a_shipped_policy_sees_what_it_was_trained_on() -> None:
    """By hand, constants included: whoever changes the estimate changes what trained policies see, and trains anew.

    Windows of 4 and 5: away for 44 and 52 ms, 16 and 8 ms short of a pass's end on average, 5 of 6 busy; 30 ms of pass
    and 8 of the next guess; a delay of 2 ms a token; 2.7731 and 2.94117 tokens at acceptance .7.
    """
    four = (44.0 + 16.0 * 5 / 6 + 38.0 + 5 * 2.0) / 2.7731
    five = (52.0 + 8.0 * 5 / 6 + 38.0 + 6 * 2.0) / 2.94117
    seen = dict(zip(PRICED_INPUTS, priced(BUSY), strict=True))
    assert seen["best_window"] == 5 / 16
    assert seen["excess_4"] == pytest.approx(log(four / five), abs=1e-6)
    assert seen["cloud_over_edge"] == pytest.approx(0.5 + 0.5 * log(32.0 / five), abs=1e-6)


def test_a_tree_in_its_place_may_ask_for_the_same() -> None:
    tree = tree_policy(make_priced(4), WindowTree((LEAF,), (0.0,), (LEAF,), (LEAF,), (3,)), "evaluate.py", {})
    assert tree.header.feature_names == tuple(ALL)
    assert tree.header.feature_ranges == make_priced(4).header.feature_ranges
    assert TreeRunner(tree).decide(BUSY).window == 3
