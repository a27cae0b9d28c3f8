"""A policy far from what its training has seen: a rule that needs no training decides there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from test_policies import make_policy
from test_vector_rules import observations

from agents.awc import Awc
from agents.learned import Learned
from dsd_gym.observation import FEATURES, Observation, to_array
from policies import PolicyRunner
from policies.ranges import FAR

POLICY = make_policy(16)
NARROWER = {**POLICY.header.feature_ranges, "smoothed_rtt_ms": (0.0, 30.0)}
NARROW = replace(POLICY, header=replace(POLICY.header, feature_ranges=NARROWER))
RTT = tuple(FEATURES).index("smoothed_rtt_ms")


def test_far_outside_its_ranges_the_rule_decides_and_elsewhere_the_policy() -> None:
    learned, runner, rule = Learned(NARROW), PolicyRunner(POLICY), Awc(POLICY.header.max_window)
    rows = observations(300)
    last = to_array(Observation(*[0.0] * RTT, 30.0, *[0.0] * (len(FEATURES) - RTT - 1)))[RTT]  # type: ignore[arg-type]
    far = 0
    for row in rows.tolist():
        seen = Observation(*row)
        is_far = to_array(seen)[RTT] > last + FAR
        expected = rule.predict(seen) if is_far else runner.decide(seen).window
        assert learned.decide(seen, 0).window == expected
        far += is_far
    outside = int((rows[:, RTT] > 30.0).sum())
    assert learned.runner.seen.out_of_range == {"smoothed_rtt_ms": outside}
    assert 30 < far < outside - 10


def test_a_bounded_feature_is_trusted_nowhere_outside() -> None:
    ranges = {**POLICY.header.feature_ranges, "acceptance_estimate": (0.1, 0.9)}
    learned = Learned(replace(POLICY, header=replace(POLICY.header, feature_ranges=ranges)))
    runner, rule, far = PolicyRunner(POLICY), Awc(POLICY.header.max_window), 0
    for row in observations(300).tolist():
        seen = Observation(*row)
        outside = not 0.1 <= seen.acceptance_estimate <= 0.9
        expected = rule.predict(seen) if outside else runner.decide(seen).window
        assert learned.decide(seen, 0).window == expected
        far += outside
    assert learned.runner.seen.out_of_range == {"acceptance_estimate": far} and far > 30


def test_many_at_once_are_decided_as_each_alone() -> None:
    learned, rows = Learned(NARROW), observations(300)
    windows, thresholds = learned.decide_many(rows)
    assert thresholds is None
    assert windows.tolist() == [learned.decide(Observation(*row), 0).window for row in rows.tolist()]


def test_where_all_is_far_outside_it_is_the_rule() -> None:
    ranges = {name: (low, min(high, 1e-3)) for name, (low, high) in POLICY.header.feature_ranges.items()}
    learned = Learned(replace(POLICY, header=replace(POLICY.header, feature_ranges=ranges)))
    rows, rule = observations(100), Awc(POLICY.header.max_window)
    rows[:, RTT] += 300.0
    windows, _ = learned.decide_many(rows)
    np.testing.assert_array_equal(windows, [rule.predict(Observation(*row)) for row in rows.tolist()])
