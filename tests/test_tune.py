"""Tuning: one budget for every rule, the same deployments and luck, and defaults that are among the trials."""

from dataclasses import replace
from functools import partial
from inspect import signature

import numpy as np
import pytest

from agents import KNOWN_SPECS
from agents.heuristic import Heuristic
from agents.tune import RULES, TRIALS, TUNED, Run, main, normalised_latency_ms, relative_latencies, tune
from agents.tune_runs import draw
from agents.tune_table import WINDOWS

UNTUNED = {"static", "oracle", "FILE.safetensors", "NAME"}


def test_every_rival_is_tuned() -> None:
    """`awc-mlp` and exported policies are trained instead."""
    rivals = {spec.partition(":")[0] for spec in KNOWN_SPECS} - UNTUNED - {"awc-mlp"}
    assert rivals == set(TUNED)


def test_rules_are_tuned_with_the_same_trials_deployments_and_luck() -> None:
    assert {len(rule.trials()) for rule in RULES.values()} == {TRIALS} == {len(set(WINDOWS))}
    first, second = draw(2, 0), draw(2, 0)
    assert first == second != draw(2, 1)
    run = Run(first[0], 0, partial(Heuristic, first_window=3))
    assert normalised_latency_ms(run) == normalised_latency_ms(run)


def test_the_chosen_constants_are_the_defaults() -> None:
    """What stands in the rules' files is one of the trials, so that tuning can be repeated and compared."""
    for rule in RULES.values():
        parameters = signature(rule.make).parameters
        assert {name: parameters[name].default for name in rule.tried} in rule.trials()


def test_scores_are_relative_to_the_reference_on_each_deployment() -> None:
    scenarios = [replace(scenario, max_requests=10) for scenario in draw(2, 3)]
    ordered = tune("heuristic", scenarios, 3, jobs=1)
    assert [score for score, _ in ordered] == sorted(score for score, _ in ordered)
    make = partial(Heuristic, **ordered[0][1])
    latencies = [[normalised_latency_ms(Run(s, 3, m)) for s in scenarios] for m in (RULES["heuristic"].make, make)]
    ratio = np.exp(np.diff(np.log(latencies), axis=0).mean())
    default, best = relative_latencies([Heuristic, make], scenarios, 3, jobs=1)
    assert best / default == pytest.approx(ratio) and best == ordered[0][0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["sgland"], "did you mean sglang"), (["awc", "--deployments", "0"], "expected a whole number from 1 on")],
)
def test_a_wrong_call_ends_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error.lower() and error.count("\n") == 1
