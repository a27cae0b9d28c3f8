import math

import numpy as np
import pytest
from scipy import stats

from dsd_gym.comparison.statistics import (
    Ratio,
    expanded_tail,
    log_ratios,
    mean_ratio,
    paired_ratio,
    student_t,
)


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 10, 11, 30, 200])
def test_quantiles_are_those_of_students_t(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=3e-4)


def test_the_estimate_is_the_geometric_mean_ratio() -> None:
    ratio = paired_ratio([2.0, 8.0, 8.0, 2.0], [1.0, 2.0, 2.0, 1.0])
    assert ratio.estimate == pytest.approx(math.sqrt(2.0 * 4.0))
    half = stats.t.ppf(0.975, 3) * np.log([2.0, 4.0, 4.0, 2.0]).std(ddof=1) / 2.0
    assert np.log(ratio) == pytest.approx([half_way := 1.5 * math.log(2.0), half_way - half, half_way + half], rel=1e-3)


def test_bounds_of_many_seeds_lie_among_them() -> None:
    ratio = paired_ratio([2.0, 8.0, 8.0, 2.0] * 3, [1.0, 2.0, 2.0, 1.0] * 3)
    assert 2.0 < ratio.low < ratio.estimate < ratio.high < 4.0


@pytest.mark.parametrize("seeds", [4, 5, 7, 8, 20])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seeds: int) -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        ratio = mean_ratio(random.normal(math.log(1.1), 0.05, seeds).tolist(), bootstraps=1000)
        covered += ratio.low <= 1.1 <= ratio.high
    assert 0.92 <= covered / 400 <= 0.98


def test_pairing_takes_out_what_the_seeds_have_in_common() -> None:
    luck = np.random.default_rng(2).lognormal(3.0, 0.5, 5)
    ratio = paired_ratio((luck * [0.951, 0.949, 0.95, 0.952, 0.948]).tolist(), luck.tolist())
    assert ratio.estimate == pytest.approx(0.95, abs=0.001)
    assert 0.947 < ratio.low < ratio.estimate < ratio.high < 0.953 and ratio.differs


def test_swapping_the_two_inverts_the_ratio() -> None:
    ahead = paired_ratio([1.0, 2.0, 5.0, 2.0], [2.0, 3.0, 4.0, 3.0])
    behind = paired_ratio([2.0, 3.0, 4.0, 3.0], [1.0, 2.0, 5.0, 2.0])
    assert ahead == pytest.approx((1 / behind.estimate, 1 / behind.high, 1 / behind.low), rel=0.02)


def test_equal_input_gives_equal_output_and_no_difference() -> None:
    values, reference = [1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 2.0, 4.5]
    assert paired_ratio(values, reference) == paired_ratio(values, reference)
    same = paired_ratio(values, values)
    assert same == Ratio(1.0, 1.0, 1.0) and not same.differs


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_too_few_seeds_have_an_estimate_and_no_interval(seeds: int) -> None:
    ratio = paired_ratio([3.0] * seeds, [2.0] * seeds)
    assert ratio.estimate == pytest.approx(1.5)
    assert math.isnan(ratio.low) and math.isnan(ratio.high) and not ratio.differs


def test_what_is_not_positive_has_no_ratio() -> None:
    assert math.isnan(log_ratios([0.0], [2.0])[0]) and math.isnan(log_ratios([1.0], [math.nan])[0])
    assert all(math.isnan(bound) for bound in paired_ratio([0.0, 1.0], [1.0, 1.0]))


def test_few_seeds_cut_less_from_the_ends() -> None:
    tails = [expanded_tail(count) for count in (4, 5, 10, 100)]
    assert tails == sorted(tails) and tails[-1] == pytest.approx(0.025, abs=0.002)
