"""The controllers: their specs, their rules by hand, and that each sees a deployment through."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from observed import QUIET, observed

from agents import KNOWN_SPECS, make_controller
from agents.average_reward import AverageReward
from agents.awc import Awc
from agents.heuristic import Heuristic
from agents.leviathan import Leviathan
from agents.sglang import SGLang
from agents.specdec import SpecDec
from agents.table import Table
from agents.turbospec import TurboSpec
from agents.ucb import Ucb
from dsd_gym.config import ConfigError
from dsd_gym.metrics import summarise
from dsd_gym.observation import FEATURE_NAMES, Observation, to_array
from dsd_gym.oracle import Oracle
from dsd_gym.pricing import best_window, first_guess_acceptance, round_tokens, wait_ms
from dsd_gym.records import Decision
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import Simulation, simulate
from policies import Layer, Policy, PolicyHeader, save_policy

SMALL = Scenario(
    name="small",
    edges=(EdgeClass(count=6, draft_ms_per_token=5.0),),
    link=LinkSpec(rtt_ms=25.0),
    workload=Workload(rate_per_s=4.0),
    lengths=Lengths(100, 100, 60, 50),
    acceptance=Acceptance("code"),
    warm_up_ms=0.0,
    horizon_ms=8000.0,
)


class Scripted(Awc):
    """AWC with the predictions written out."""

    def __init__(self, *predictions: int) -> None:
        super().__init__(12)
        self._predictions = iter(predictions)

    def predict(self, observation: Observation) -> int:
        return next(self._predictions)


def windows(controller: Awc, count: int) -> list[int]:
    return [controller.decide(QUIET, 0).window for _ in range(count)]


def written_policy(folder: Path) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    weight = random.normal(size=(13, len(FEATURE_NAMES))).astype(np.float32)
    bias = random.normal(size=13).astype(np.float32)
    header = PolicyHeader(
        max_window=12,
        activation="tanh",
        feature_ranges=dict.fromkeys(FEATURE_NAMES, (0.0, 1e9)),
        scenario_ranges={},
        training_config={},
        config_hash="",
        seed=0,
        package_version="0",
        command="",
        evaluation={},
    )
    path = folder / "policy.safetensors"
    save_policy(Policy(header, (Layer(weight, bias),)), path)
    return str(path), weight, bias


def test_specs_make_controllers(tmp_path: Path) -> None:
    assert make_controller("static:0", 12).decide(QUIET, 0) == Decision(0)
    assert make_controller("static:12", 12).decide(QUIET, 0) == Decision(12)
    made = {
        "heuristic": Heuristic,
        "leviathan": Leviathan,
        "awc": Awc,
        "average-reward": AverageReward,
        "sglang": SGLang,
        "specdec": SpecDec,
        "turbospec": TurboSpec,
        "ucb": Ucb,
        "table:vllm": Table,
        "oracle": Oracle,
    }
    for spec, controller in made.items():
        assert type(make_controller(spec, 12)) is controller
        assert make_controller(spec, 12) is not make_controller(spec, 12)


def test_an_unknown_spec_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="sarsa: unknown controller") as error:
        make_controller("sarsa", 12)
    assert all(spec in str(error.value) for spec in KNOWN_SPECS)


@pytest.mark.parametrize("spec", ["static:99", "static:13", "static:-1", "static:four", "static:4.0"])
def test_a_window_out_of_range_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"{spec}: the window must be a whole number from 0 to 12"):
        make_controller(spec, 12)


@pytest.mark.parametrize(
    "spec", ["static", "static:", "table", "table:", "heuristic:3", "ucb:published", "missing.safetensors"]
)
def test_half_a_spec_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_controller(spec, 12)
    assert spec in str(error.value) and "\n" not in str(error.value)


def test_heuristic_lengthens_by_two_and_shortens_by_one() -> None:
    rule = Heuristic(12, first_window=5)
    assert rule.decide(observed(has_last_round=False, last_window=0, all_accepted=False), 0).window == 5
    for last, accepted_all, expected in ((4, True, 6), (4, False, 3), (11, True, 12), (12, True, 12), (1, False, 1)):
        answer = rule.decide(observed(last_window=last, all_accepted=accepted_all), 0)
        assert answer.window == expected
    assert Heuristic(3, first_window=5).decide(observed(has_last_round=False), 0).window == 3


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("rtt_ms", [1.0, 20.0, 60.0, 150.0])
@pytest.mark.parametrize("draft_ms", [1.0, 8.0, 30.0])
def test_leviathan_is_the_argmin_of_its_formula_at_zero_load(acceptance: float, rtt_ms: float, draft_ms: float) -> None:
    """(k t_d + RTT + t_v) (1 - a) / (1 - a^(k+1)), and t_v for the cloud, which must be a tenth better."""

    def ms_per_token(k: int) -> float:
        return (k * draft_ms + rtt_ms + 30.0) * (1 - acceptance) / (1 - acceptance ** (k + 1))

    best = min(range(1, 13), key=ms_per_token)
    expected = 0 if ms_per_token(best) * 0.9 > 30.0 else best
    seen = observed(
        acceptance_estimate=acceptance,
        first_guess_confidence=acceptance,
        smoothed_rtt_ms=rtt_ms,
        draft_ms_per_token=draft_ms,
    )
    assert Leviathan(12, cloud_margin=0.1).decide(seen, 0).window == expected


def test_a_price_on_others_shortens_windows_in_a_crowd_alone() -> None:
    crowd = observed(batch_size=40, marginal_ms_per_token=0.3, queue_wait_ms=30.0)
    assert best_window(crowd, 12, 4.0, 9.0) < best_window(crowd, 12, 0.0, 9.0)
    assert best_window(QUIET, 12, 4.0, 0.1) == best_window(QUIET, 12, 0.0, 0.1)


def test_a_confident_first_guess_counts_for_more() -> None:
    sure, unsure = (observed(first_guess_confidence=p) for p in (0.99, 0.2))
    assert first_guess_acceptance(sure) > 0.7 > first_guess_acceptance(unsure)
    assert first_guess_acceptance(QUIET) == pytest.approx(0.7)
    assert first_guess_acceptance(observed(has_first_guess=False, first_guess_confidence=0.0)) == 0.7
    assert round_tokens(QUIET, 3) == pytest.approx((1 - 0.7**4) / 0.3)
    for extreme in (0.0, 1.0):
        seen = observed(first_guess_confidence=extreme, acceptance_estimate=extreme)
        assert 0.0 <= first_guess_acceptance(seen) <= 1.0


def test_a_window_that_just_misses_an_iteration_waits_for_the_next() -> None:
    busy = observed(batch_size=1000, iteration_ms=50.0, rtt_deviation_ms=0.0)
    assert wait_ms(busy, 70.0) == pytest.approx(30.0, rel=0.01), "in the middle of the second iteration"
    assert wait_ms(busy, 20.0) == pytest.approx(wait_ms(busy, 70.0))
    assert 0.0 < wait_ms(busy, 49.0) < 50.0, "blurred at the edge"
    assert wait_ms(observed(batch_size=1), 70.0) == 0.0


def test_awc_smooths_and_rounds_for_each_stream() -> None:
    """8; 8 - .4 x 5 = 6; 6 - .4 x 3 = 4.8 -> 5; 4.8 + .4 x 4.2 = 6.48 -> 6."""
    assert windows(Scripted(8, 3, 3, 9), 4) == [8, 6, 5, 6]
    two = Scripted(8, 2, 3)
    assert [two.decide(QUIET, stream).window for stream in (0, 1, 0)] == [8, 2, 6]


def test_awc_clamps_what_is_predicted() -> None:
    assert windows(Scripted(30, 30), 2) == [12, 12]
    assert windows(Scripted(8, 0), 2) == [8, 5], "0 counts as 1"


def test_awc_switches_after_two_predictions_in_a_row() -> None:
    assert windows(Scripted(8, 1, 8, 0, 8), 5) == [8, 5, 6, 4, 6], "one alone does not switch"
    assert windows(Scripted(8, 1, 0, 0), 4) == [8, 5, 0, 0]
    assert windows(Scripted(1, 1, 4, 1, 4, 4), 6) == [0, 0, 0, 0, 0, 3], "the first sets the mode, and two lead back"


def test_controllers_are_told_which_streams_have_ended() -> None:
    awc = Awc(12)
    records = simulate(SMALL, awc)
    assert len(awc._pairs) <= 2 < len(records.requests)


def test_a_learned_controller_answers_as_its_policy(tmp_path: Path) -> None:
    path, weight, bias = written_policy(tmp_path)
    controller = make_controller(path, 12)
    random = np.random.default_rng(1)
    for _ in range(200):
        seen = observed(
            acceptance_estimate=float(random.uniform()),
            smoothed_rtt_ms=float(random.uniform(1, 200)),
            batch_size=int(random.integers(1, 60)),
            last_window=int(random.integers(13)),
        )
        expected = int(np.argmax(weight @ to_array(seen) + bias))
        assert controller.decide(seen, 0).window == expected


@pytest.mark.parametrize(
    "spec",
    [
        "static:0",
        "static:1",
        "static:12",
        "heuristic",
        "leviathan",
        "awc",
        "average-reward",
        "sglang",
        "specdec",
        "table:mlc",
        "turbospec",
        "ucb",
        "oracle",
        "file",
    ],
)
def test_every_controller_sees_a_small_deployment_through(spec: str, tmp_path: Path) -> None:
    path = written_policy(tmp_path)[0] if spec == "file" else spec
    metrics = summarise(simulate(SMALL, make_controller(path, SMALL.max_window)))
    assert metrics["scored_requests"] == metrics["finished"] > 15


def test_the_oracle_is_no_worse_than_the_best_fixed_window() -> None:
    def latency_ms(spec: str) -> float:
        runs = [summarise(simulate(SMALL, make_controller(spec, 12), seed)) for seed in range(3)]
        return float(np.mean([run["normalised_latency_ms"] for run in runs]))

    assert latency_ms("oracle") < min(latency_ms(f"static:{k}") for k in range(13))


def test_the_oracle_must_watch_a_simulation() -> None:
    ask = Simulation(SMALL, 0).next_decision()
    assert ask is not None
    with pytest.raises(ValueError, match="watches a simulation"):
        Oracle(12).decide(ask.observation, ask.stream)
