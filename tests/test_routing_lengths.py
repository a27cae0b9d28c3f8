"""Expected remaining lengths against closed forms and samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.routing.lengths import RequestLengths, mean_residual
from dsd_gym.scenario import Lengths, RequestClass, Scenario, Workload
from dsd_gym.workload import Population


def expected(lengths: Lengths, committed: int) -> float:
    return RequestLengths(Scenario(lengths=lengths)).expected_remaining(0, committed)


def normal_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))


@pytest.mark.parametrize("committed", [1, 20, 100, 400])
def test_log_normal_remainder_is_the_conditional_mean(committed: int) -> None:
    """E[X | X > c] = mean x Phi((mu + s^2 - ln c) / s) / Phi((mu - ln c) / s); rounding shifts c by half a token."""
    lengths = Lengths(256, 200, 128, 90, max_output=100_000)
    mu, sigma, cut = math.log(90), math.sqrt(2 * math.log(128 / 90)), committed + 0.5
    above = normal_tail((math.log(cut) - mu) / sigma)
    mean = 128 * normal_tail((math.log(cut) - mu - sigma**2) / sigma) / above
    assert expected(lengths, committed) == pytest.approx(mean - committed, rel=0.003)


@pytest.mark.parametrize("committed", [0, 30, 80, 119])
def test_remainder_is_what_clipped_and_rounded_requests_still_want(committed: int) -> None:
    """Against 20 000 drawn requests: standard error at most 1.5 %."""
    lengths = Lengths(64, 64, 90, 60, max_output=120)
    population = Population(Scenario(lengths=lengths), 1)
    outputs = np.array([population.request(stream, 0.0).output_tokens for stream in range(20_000)])
    left = (outputs - committed)[outputs > committed]
    assert expected(lengths, committed) == pytest.approx(left.mean(), rel=0.03)


def test_constant_lengths_count_down() -> None:
    assert [expected(Lengths(64, 64, 100, 100), c) for c in (0, 1, 60, 99, 100, 500)] == [100, 99, 40, 1, 1, 1]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(0, 59))
def test_mean_residual_of_any_sample(lengths: list[int], committed: int) -> None:
    tail = np.array([sum(x > c for x in lengths) / len(lengths) for c in range(max(lengths))])
    left = [x - committed for x in lengths if x > committed]
    if left:
        assert mean_residual(tail)[committed] == pytest.approx(np.mean(left))


def test_a_trace_has_its_own_lengths(tmp_path: Path) -> None:
    rows = [f'{{"timestamp": {i}, "input_length": 5, "output_length": {n}}}' for i, n in enumerate((10, 10, 40))]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    lengths = RequestLengths(Scenario(workload=Workload("trace", trace=str(tmp_path / "t.jsonl"))))
    assert lengths.expected_remaining(0, 0) == pytest.approx(20)
    assert lengths.expected_remaining(0, 10) == pytest.approx(30) and lengths.expected_remaining(3, 39) == 1


def test_classes_have_their_own() -> None:
    classes = (RequestClass("short", lengths=Lengths(9, 9, 10, 10)), RequestClass("as_all"))
    lengths = RequestLengths(Scenario(lengths=Lengths(9, 9, 80, 80), classes=classes))
    assert [lengths.expected_remaining(kind, 4) for kind in (0, 1)] == [6, 76]
