"""Whatever mechanisms are combined: controllers are shown what is finite and consistent, and told of everything."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from scenarios import RULE_SPECS, Case, cases
from watched import Asked, Run

from dsd_gym.observation import to_array

EXAMPLES = 50


@settings(max_examples=EXAMPLES)
@given(cases())
def test_observations_are_finite_and_scale_to_one(case: Case) -> None:
    for asked in Run(case).asked:
        assert all(math.isfinite(value) and value >= 0 for value in asked.observation)
        scaled = to_array(asked.observation)
        assert np.all((scaled >= 0.0) & (scaled <= 1.0))


@settings(max_examples=EXAMPLES)
@given(cases())
def test_what_is_masked_is_zero(case: Case) -> None:
    for asked in Run(case).asked:
        seen = asked.observation
        assert seen.has_first_guess or seen.first_guess_confidence == 0.0
        assert seen.has_last_confidence or seen.last_mean_confidence == 0.0
        assert seen.has_last_round or (seen.last_window, seen.last_accepted, seen.all_accepted) == (0, 0, False)
        assert seen.has_last_round or not seen.has_last_confidence
        assert not seen.cloud_mode or not (seen.has_first_guess or seen.has_last_confidence)
        assert not seen.has_first_guess or seen.catch_up_ms == 0.0
        assert 0.0 <= seen.first_guess_confidence <= 1.0 and 0.0 <= seen.last_mean_confidence <= 1.0


@settings(max_examples=EXAMPLES)
@given(cases())
def test_observations_tell_what_has_happened(case: Case) -> None:
    """Tokens, mode, last window and last round trip are those of the rounds before the question."""
    run, asked_of = Run(case), defaultdict[int, list[Asked]](list)
    for asked in run.asked:
        asked_of[asked.stream].append(asked)
    for stream, questions in asked_of.items():
        committed, last, in_cloud = 1, (0, 0), False
        rounds, request = run.rounds_of(stream), run.requests[stream]
        assert len(questions) - len(rounds) in (0, 1)
        for number, asked in enumerate(questions):
            seen = asked.observation
            assert seen.committed_tokens == committed < request.arrival.output_tokens
            assert seen.context_tokens == request.arrival.prompt_tokens + committed
            assert seen.cloud_mode == in_cloud and (seen.last_window, seen.last_accepted) == last
            assert seen.all_accepted == (seen.has_last_round and last[0] == last[1])
            if number == len(rounds):
                break
            round = rounds[number]
            assert round.decided_ms == asked.now_ms and round.window == asked.decision.window
            committed, in_cloud = committed + round.committed, round.window == 0
            last = (round.drafted, round.accepted) if round.drafted else last


@settings(max_examples=EXAMPLES)
@given(cases())
def test_whoever_decides_is_told_of_everything_once_and_in_order(case: Case) -> None:
    """Begin, then a decision and its round in turn, then forget; after which nobody is heard of again."""
    run, heard = Run(case), defaultdict[int, list[str]](list)
    for what, stream in run.told:
        heard[stream].append(what)
    assert heard.keys() == run.requests.keys()
    for stream, words in heard.items():
        gone = words[-1] == "forget"
        assert gone == (stream in run.left_ms)
        middle = words[1 : len(words) - gone]
        assert words[0] == "begin" and len(words) - len(middle) == 1 + gone
        if run.requests[stream].degraded:
            assert set(middle) <= {"record"}
        else:
            assert middle == ["decide", "record"] * (len(middle) // 2) + ["decide"] * (len(middle) % 2)
        assert middle.count("record") == len(run.rounds_of(stream))


@pytest.mark.parametrize("spec", RULE_SPECS)
def test_every_rule_bears_every_deployment(spec: str) -> None:
    @settings(max_examples=12)
    @given(cases())
    def bears(case: Case) -> None:
        run = Run(Case(case.scenario, spec, case.seed))
        assert all(0 <= asked.decision.window <= case.scenario.max_window for asked in run.asked)

    bears()
