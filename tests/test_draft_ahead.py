"""Drafting while a window is away: against closed forms at zero load, and giving way on a shared device."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.static import Static
from dsd_gym.device import Device
from dsd_gym.metrics import summarise
from dsd_gym.network import Link
from dsd_gym.records import Records, Round
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, LinkSpec, Messages, Scenario, Workload
from dsd_gym.simulator import simulate


def alone(
    ahead: bool, acceptance: float, draft_ms: float, rtt_ms: float, devices: int = 1, users: int = 1, output: int = 400
) -> Scenario:
    """Return one request at a time on an idle target, without jitter, and with all tokens in one pass for nothing."""
    return Scenario(
        edges=(EdgeClass(count=devices, draft_ms_per_token=draft_ms, prefill_ms_per_token=0.0),),
        link=LinkSpec(rtt_ms=rtt_ms, jitter_ms=0, up_mbps=1e9, down_mbps=1e9),
        workload=Workload(kind="closed", users=users),
        lengths=Lengths(prompt_mean=8, prompt_median=8, output_mean=output, output_median=output, max_output=output),
        acceptance=Acceptance(profile="constant", probability=acceptance),
        messages=Messages(prompt_token_bytes=0, header_bytes=0, committed_token_bytes=0),
        draft_ahead=ahead,
        warm_up_ms=0.0,
        horizon_ms=100_000.0,
        drain_ms=0.0,
    )


def rounds(scenario: Scenario, window: int, seed: int = 0) -> list[Round]:
    """Return the rounds of the first request but its first and last two."""
    first = [round for round in simulate(scenario, Static(window), seed).rounds if round.stream == 0]
    return first[1:-2]


def pass_ms(round: Round) -> float:
    return round.iteration_ms


@pytest.mark.parametrize(("draft_ms", "rtt_ms"), [(3.0, 20.0), (30.0, 5.0), (8.0, 60.0)])
@pytest.mark.parametrize("window", [1, 4, 7])
def test_with_every_guess_right_drafting_hides_behind_the_round_trip(
    window: int, draft_ms: float, rtt_ms: float
) -> None:
    """A round then takes the longer of the two: the bonus token and the window drafted, or RTT and pass."""
    for round in rounds(alone(True, 1.0, draft_ms, rtt_ms), window)[1:]:
        assert round.committed == window + 1
        away_ms = rtt_ms + pass_ms(round)
        # the first guess of the next round is asked for when the verdict is in, and has to be there
        steady_ms = max(away_ms, (window + 1) * draft_ms)
        assert round.elapsed_ms == pytest.approx(steady_ms, abs=0.05)


def test_a_guess_that_was_in_progress_when_others_came_is_there_at_its_end() -> None:
    device = Device(0, 0, 10.0, 0.0, Link(LinkSpec(), 0, 0), ahead_limit=8)
    request = SimpleNamespace(ahead=None, guessed=1)
    assert device.draft(request, 1, 10.0) == 10.0  # type: ignore[arg-type]
    assert device.compute(21.0, 10.0) == 40.0, "the second token ahead, at 30, is finished first"
    device.verified(request, True, 22.0)  # type: ignore[arg-type]
    assert device.first_guess(request, 22.0) == 30.0  # type: ignore[arg-type]


@pytest.mark.parametrize(("draft_ms", "rtt_ms"), [(3.0, 20.0), (7.0, 5.0)])
def test_with_every_guess_wrong_the_step_in_progress_is_all_that_it_costs(draft_ms: float, rtt_ms: float) -> None:
    window = 4
    for before, round in zip(
        rounds(alone(True, 0.0, draft_ms, rtt_ms), window),
        rounds(alone(True, 0.0, draft_ms, rtt_ms), window)[1:],
        strict=False,
    ):
        away_ms = rtt_ms + pass_ms(before)
        steps = away_ms / draft_ms
        left_ms = (math.ceil(steps) - steps) * draft_ms if steps < 13 else 0.0
        assert round.elapsed_ms == pytest.approx(left_ms + window * draft_ms + rtt_ms + pass_ms(round), abs=0.05)


@pytest.mark.parametrize("acceptance", [0.5, 0.8, 0.95])
def test_mean_round_is_that_of_the_work_kept_with_probability_a_to_the_window_plus_one(acceptance: float) -> None:
    """E[T] = a^(k+1) max((k+1) t_d, RTT + t_v) + (1 - a^(k+1)) (k t_d + RTT + t_v): PicoSpec's form (arXiv 2603.19133)
    with the bonus token kept; the step in progress, at most one t_d, comes on top of the second part."""
    window, draft_ms, rtt_ms = 3, 6.0, 40.0
    found = rounds(alone(True, acceptance, draft_ms, rtt_ms, output=4000), window)
    away_ms = rtt_ms + sum(pass_ms(round) for round in found) / len(found)
    kept = acceptance ** (window + 1)
    least_ms = kept * max((window + 1) * draft_ms, away_ms) + (1 - kept) * (window * draft_ms + away_ms)
    mean_ms = sum(round.elapsed_ms for round in found) / len(found)
    noise_ms = 3 * window * draft_ms * math.sqrt(kept * (1 - kept) / len(found))
    assert least_ms - noise_ms <= mean_ms <= least_ms + (1 - kept) * draft_ms + noise_ms


@settings(max_examples=30, deadline=None)
@given(
    acceptance=st.floats(0.0, 1.0),
    draft_ms=st.floats(0.5, 30.0),
    rtt_ms=st.floats(0.0, 100.0),
    window=st.integers(1, 12),
    users=st.integers(1, 3),
)
def test_drafting_ahead_changes_times_and_not_tokens(
    acceptance: float, draft_ms: float, rtt_ms: float, window: int, users: int
) -> None:
    """Each stream commits the same tokens round by round, with or without."""

    def tokens(records: Records) -> dict[int, list[int]]:
        streams: dict[int, list[int]] = {}
        for round in records.rounds:
            streams.setdefault(round.stream, []).append(round.committed)
        return streams

    without, ahead = (
        tokens(simulate(alone(flag, acceptance, draft_ms, rtt_ms, users=users, output=40), Static(window), 0))
        for flag in (False, True)
    )
    for stream in without.keys() & ahead.keys():
        length = min(len(without[stream]), len(ahead[stream]))
        assert without[stream][:length] == ahead[stream][:length]


@settings(max_examples=30, deadline=None)
@given(acceptance=st.floats(0.0, 1.0), draft_ms=st.floats(0.5, 30.0), window=st.integers(1, 12))
def test_alone_on_a_device_it_costs_at_most_a_step_a_round(acceptance: float, draft_ms: float, window: int) -> None:
    without, ahead = (rounds(alone(flag, acceptance, draft_ms, 20.0, output=60), window) for flag in (False, True))
    for plain, hidden in zip(without, ahead, strict=True):
        assert hidden.elapsed_ms <= plain.elapsed_ms + draft_ms + 1e-6


def test_it_gives_way_to_other_streams_of_the_device() -> None:
    """With four streams on one slow draft, work ahead must not hold up anybody for more than a step a turn."""
    plain, ahead = (
        summarise(simulate(alone(flag, 0.3, 10.0, 20.0, users=4, output=60), Static(4), 0)) for flag in (False, True)
    )
    turns = 4 * 10.0 / plain["tokens_per_round"]
    assert ahead["tpot_ms"] <= plain["tpot_ms"] + turns
    assert ahead["acceptance_rate"] == pytest.approx(plain["acceptance_rate"], abs=0.03)


def test_it_pays_where_guesses_are_good_and_the_way_is_long() -> None:
    plain, ahead = (summarise(simulate(alone(flag, 0.95, 8.0, 60.0), Static(4), 0)) for flag in (False, True))
    assert ahead["tpot_ms"] < 0.9 * plain["tpot_ms"]
