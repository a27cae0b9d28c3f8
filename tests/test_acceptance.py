"""Acceptance: tapes that are luck alone, closed forms for a constant, published data for the profiles."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.acceptance import (
    PROFILES,
    accepted_run,
    constant_profile,
    expected_tokens,
    with_sampling,
)
from dsd_gym.calibrate_acceptance import PUBLISHED, TOLERANCES, confidence_correlation, errors

COMPILED = numba.njit(expected_tokens)


@given(st.floats(0.0, 0.999), st.integers(0, 32))
def test_expected_tokens_is_the_geometric_sum(a: float, window: int) -> None:
    assert expected_tokens(a, window) == pytest.approx((1.0 - a ** (window + 1)) / (1.0 - a))
    assert COMPILED(a, window) == expected_tokens(a, window)


def test_expected_tokens_near_and_at_certainty() -> None:
    assert expected_tokens(1.0, 7) == 8.0
    assert expected_tokens(1.0 - 1e-13, 7) == pytest.approx(8.0, rel=1e-11)
    assert expected_tokens(0.0, 7) == 1.0


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 20), st.integers(0, 12))
def test_accepted_run_counts_true_flags_up_to_the_window(flags: list[bool], start: int, window: int) -> None:
    count = 0
    while count < window and start + count < len(flags) and flags[start + count]:
        count += 1
    assert accepted_run(flags, start, window) == count


@given(st.sampled_from(sorted(PROFILES)), st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, 90))
def test_a_longer_tape_begins_with_the_shorter(name: str, seed: int, request_id: int, length: int) -> None:
    short, long = (PROFILES[name].tape(seed, request_id, n) for n in (length, 100))
    assert short.accepted == long.accepted[:length]
    assert short.confidence == long.confidence[:length]
    assert all(0.0 <= value <= 1.0 for value in long.confidence)


def test_tapes_differ_between_requests_and_seeds() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    tapes = [tuple(PROFILES["code"].tape(*key, 200).accepted) for key in keys]
    assert len(set(tapes)) == 4


def test_better_profiles_accept_whatever_worse_ones_do() -> None:
    profiles = [with_sampling(PROFILES["chat"], sampling) for sampling in ("greedy", "temperature_1")]
    worse, better = (profile.tape(0, 0, 2000) for profile in profiles)
    assert all(b >= w for w, b in zip(worse.accepted, better.accepted, strict=True))
    assert sum(better.accepted) > sum(worse.accepted)
    assert all(b > w for w, b in zip(worse.confidence, better.confidence, strict=True))


def test_temperature_shift_is_the_measured_one() -> None:
    greedy = PROFILES["maths"]
    assert with_sampling(greedy, "greedy") == greedy
    shift = with_sampling(greedy, "temperature_1").mean_logit - greedy.mean_logit
    assert shift == pytest.approx(0.72, abs=0.005)
    with pytest.raises(ValueError, match="temperature_1"):
        with_sampling(greedy, "hot")


@pytest.mark.parametrize("a", [0.3, 0.6, 0.85])
def test_constant_profile_commits_the_expected_tokens(a: float) -> None:
    profile = constant_profile(a)
    assert profile.mean_acceptance == pytest.approx(a, abs=1e-12)
    flags = profile.tape(0, 0, 60_000).accepted
    assert np.mean(flags) == pytest.approx(a, abs=4.0 * math.sqrt(a * (1.0 - a) / len(flags)))
    for window in (1, 4, 8):
        start = rounds = 0
        while start + window < len(flags):
            start += accepted_run(flags, start, window) + 1
            rounds += 1
        assert start / rounds == pytest.approx(expected_tokens(a, window), rel=0.02)


def test_constant_profile_reaches_never_and_always() -> None:
    for a in (0.0, 1.0):
        assert constant_profile(a).mean_acceptance == pytest.approx(a)
        tape = constant_profile(a).tape(0, 0, 5000)
        assert set(tape.accepted) == {a == 1.0}
        assert set(tape.confidence) == {a}
    with pytest.raises(ValueError, match=r"1\.5"):
        constant_profile(1.5)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_mean_acceptance_is_that_of_positions(name: str) -> None:
    tapes = [PROFILES[name].tape(2, request, 100).accepted for request in range(1500)]
    assert PROFILES[name].mean_acceptance == pytest.approx(np.mean(tapes), abs=0.015)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profile_matches_published_acceptance(name: str) -> None:
    assert np.abs(errors(PROFILES[name], PUBLISHED[name], requests=800, seed=3)).max() < 1.0


def test_tolerances_are_tight() -> None:
    assert TOLERANCES.tokens_per_round <= 0.05
    assert TOLERANCES.none_accepted <= 0.02
    assert max(TOLERANCES.by_depth) <= 0.03
    assert TOLERANCES.autocorrelation <= 0.05
    assert TOLERANCES.between_requests <= 0.03


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_confidence_is_informative_and_noisy(name: str) -> None:
    assert confidence_correlation(PROFILES[name], seed=3) == pytest.approx(0.3, abs=0.03)
