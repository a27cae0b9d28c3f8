"""A policy beyond what its training has seen: a rule that needs no training decides there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from test_policies import make_policy
from test_vector_rules import observations

from agents.awc import Awc
from agents.learned import Learned
from dsd_gym.observation import FEATURES, Observation
from policies import PolicyRunner

POLICY = make_policy(16)
NARROWER = {**POLICY.header.feature_ranges, "smoothed_rtt_ms": (0.0, 30.0)}
NARROW = replace(POLICY, header=replace(POLICY.header, feature_ranges=NARROWER))
RTT = tuple(FEATURES).index("smoothed_rtt_ms")


def test_outside_its_ranges_the_rule_decides_and_inside_the_policy() -> None:
    learned, runner, rule = Learned(NARROW), PolicyRunner(POLICY), Awc(POLICY.header.max_window)
    rows = observations(300)
    outside = rows[:, RTT] > 30.0
    assert 50 < outside.sum() < 250
    for row, out in zip(rows.tolist(), outside.tolist(), strict=True):
        seen = Observation(*row)
        expected = rule.predict(seen) if out else runner.decide(seen).window
        assert learned.decide(seen, 0).window == expected
    assert learned.runner.seen.out_of_range == {"smoothed_rtt_ms": outside.sum()}


def test_many_at_once_are_decided_as_each_alone() -> None:
    learned, rows = Learned(NARROW), observations(300)
    windows, thresholds = learned.decide_many(rows)
    assert thresholds is None
    assert windows.tolist() == [learned.decide(Observation(*row), 0).window for row in rows.tolist()]


def test_where_all_is_outside_it_is_the_rule() -> None:
    ranges = {name: (low, min(high, 1e-3)) for name, (low, high) in POLICY.header.feature_ranges.items()}
    learned = Learned(replace(POLICY, header=replace(POLICY.header, feature_ranges=ranges)))
    rows, rule = observations(100), Awc(POLICY.header.max_window)
    windows, _ = learned.decide_many(rows)
    np.testing.assert_array_equal(windows, [rule.predict(Observation(*row)) for row in rows.tolist()])
