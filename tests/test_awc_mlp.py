"""The paper's window controller: what it sees, how predictions are tamed, and its specs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_agents import QUIET, SMALL
from test_policies_regressor import make_header, make_regressor

from agents import make_controller
from agents.awc_mlp import AwcMlp
from agents.awc_mlp_inputs import MEMORY, REPORT_GAIN, PairHistory, queue_utilisation
from agents.pairs import Pairs
from agents.stabilisation import Stabilised
from dsd_gym.config import ConfigError
from dsd_gym.metrics import summarise
from dsd_gym.records import Round
from dsd_gym.simulator import simulate
from policies import Layer, Policy, save_policy


def stabilised(*predictions: float, first_window: int = 0) -> list[int]:
    pair = Stabilised(12, first_window)
    return [pair.window(prediction) for prediction in predictions]


def a_round(stream: int, elapsed_ms: float, committed: int) -> Round:
    return Round(stream, 0.0, 1.0, elapsed_ms, 4, 4, 3, 0, committed, 20.0, 0.0, 30.0, 1, 0.0, 100.0, 100.0)


def constant(window: float) -> Policy:
    """Return a regressor that predicts one window, whatever it sees."""
    zeros = [Layer(np.zeros((n, m), np.float32), np.zeros(n, np.float32)) for n, m in ((4, 5), (4, 4), (4, 4))]
    return Policy(make_header(), (*zeros, Layer(np.zeros((1, 4), np.float32), np.array([window], np.float32))))


# --- stabilisation --------------------------------------------------------------------------------------------------


def test_a_prediction_is_clamped_smoothed_and_rounded() -> None:
    assert stabilised(30.0, 30.0) == [12, 12]
    assert stabilised(8.0, 4.0, 4.0, 4.0) == [8, 6, 5, 5], "8, 6.4, 5.44, 4.864"
    assert stabilised(8.0, -5.0) == [8, 5], "-5 counts as 1: 5.2"
    assert stabilised(3.4, 3.6, 3.6) == [3, 3, 4], "3.4, 3.48, 3.528: rounded last, not first"


def test_two_predictions_of_1_running_switch_to_the_cloud_and_two_others_back() -> None:
    assert stabilised(8.0, 1.0, 8.0, 1.0, 8.0) == [8, 5, 6, 4, 6], "one alone does not switch"
    assert stabilised(8.0, 1.4, 0.2, 1.0) == [8, 5, 0, 0], "what rounds to 1 or less speaks for the cloud"
    assert stabilised(1.0, 4.0, 1.0, 4.0, 4.0) == [0, 0, 0, 0, 3], "the first sets the mode, and two lead back"
    assert stabilised(1.0, 6.0, 6.0, first_window=4) == [0, 0, 5], "2.8, 4.08, 4.848"


@given(st.lists(st.floats(-100.0, 100.0), min_size=1, max_size=40), st.integers(1, 16))
def test_windows_stay_in_bounds_and_modes_last_two_predictions(predictions: list[float], longest: int) -> None:
    pair = Stabilised(longest)
    windows = [pair.window(prediction) for prediction in predictions]
    assert all(0 <= window <= longest for window in windows)
    for now in range(1, len(windows)):
        if (windows[now] == 0) != (windows[now - 1] == 0):
            last_two = [round(min(max(p, 1.0), longest)) <= 1 for p in predictions[now - 1 : now + 1]]
            assert last_two == [windows[now] == 0] * 2


def test_streams_of_a_pair_share_what_is_kept_and_others_do_not() -> None:
    pairs = Pairs(list[int])
    for stream, device, target in ((0, 7, 0), (1, 7, 0), (2, 7, 1)):
        pairs.begin(stream, device, target)
    pairs.of(0).append(1)
    assert (pairs.of(1), pairs.of(2), pairs.of(3)) == ([1], [], [])
    for stream in range(4):
        pairs.forget(stream)
    assert len(pairs) == 0
    pairs.begin(9, 7, 0)
    assert pairs.of(9) == [1], "the pair outlives its streams"
    assert pairs.of(3) == [], "a stream without a pair does not"


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spent_ms", "utilisation"), [(0.0, 0.0), (30.0, 0.0), (60.0, 0.5), (120.0, 0.75)])
def test_queue_utilisation_is_that_of_an_mm1_queue(spent_ms: float, utilisation: float) -> None:
    assert queue_utilisation(30.0, spent_ms) == pytest.approx(utilisation)
    if utilisation:  # time in an M/M/1 system = service / (1 - utilisation)
        assert spent_ms == pytest.approx(30.0 / (1.0 - utilisation))


def test_time_at_the_target_is_smoothed_over_reports() -> None:
    history = PairHistory()
    quiet = QUIET._replace(one_token_iteration_ms=30.0, iteration_ms=30.0, queue_wait_ms=0.0)
    assert history.observed(quiet).queue_utilisation == 0.0
    busy = quiet._replace(iteration_ms=40.0, queue_wait_ms=40.0)
    assert history.observed(busy).queue_utilisation == pytest.approx(1.0 - 30.0 / (30.0 + REPORT_GAIN * 50.0))


def test_recent_tpot_is_ms_over_tokens_with_older_rounds_fading() -> None:
    history = PairHistory()
    assert history.observed(QUIET).tpot_ms == 0.0
    history.record(a_round(0, 100.0, 4))
    assert history.observed(QUIET).tpot_ms == 25.0
    history.record(a_round(0, 30.0, 1))
    expected = pytest.approx((MEMORY * 100.0 + 30.0) / (MEMORY * 4 + 1))
    assert history.observed(QUIET).tpot_ms == expected
    history.decided(5)
    history.decided(0)
    history.record(a_round(0, 900.0, 8)._replace(window=0, drafted=0, accepted=0))
    assert history.observed(QUIET).tpot_ms == expected, "cloud rounds do not count"
    assert history.observed(QUIET).previous_window == 5, "nor does cloud mode"


def test_the_regressor_sees_the_observation_the_pair_and_its_own_last_window() -> None:
    controller = AwcMlp(constant(5.0))
    seen: list[Any] = []
    controller.regressor.predict = lambda inputs: seen.append(inputs) or 5.0  # type: ignore[method-assign, func-returns-value]
    controller.begin(0, 3, 0)
    controller.decide(QUIET, 0)
    controller.record(a_round(0, 80.0, 4))
    controller.forget(0)
    controller.begin(1, 3, 0)
    controller.decide(QUIET._replace(smoothed_rtt_ms=44.0), 1)
    first, second = seen
    assert (first.acceptance_rate, first.rtt_ms, first.tpot_ms, first.previous_window) == (0.7, 20.0, 0.0, 0)
    assert (second.rtt_ms, second.tpot_ms, second.previous_window) == (44.0, 20.0, 4)


# --- the controller -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("predicted", "windows"), [(5.2, [4, 5, 5, 5]), (40.0, [7, 9, 10, 11]), (1.2, [0, 0, 0, 0])])
def test_a_policy_file_becomes_the_stabilised_controller(tmp_path: Path, predicted: float, windows: list[int]) -> None:
    save_policy(constant(predicted), tmp_path / "p.safetensors")
    controller = make_controller(str(tmp_path / "p.safetensors"), 12)
    assert type(controller) is AwcMlp
    assert [controller.decide(QUIET, 0).window for _ in range(4)] == windows, "from 4 on, by 0.4 of the way"


def test_a_policy_that_may_ask_for_longer_windows_is_refused(tmp_path: Path) -> None:
    save_policy(constant(5.0), tmp_path / "p.safetensors")
    with pytest.raises(ConfigError, match="windows of 12; at most 8 can be served"):
        make_controller(str(tmp_path / "p.safetensors"), 8)


def test_the_shipped_network_has_a_name_and_changes_its_window() -> None:
    records = simulate(SMALL, make_controller("awc-mlp", SMALL.max_window))
    metrics = summarise(records)
    assert metrics["scored_requests"] == metrics["finished"] > 15
    assert len({round.window for round in records.rounds}) > 1


def test_what_is_kept_of_streams_ends_with_them() -> None:
    controller = AwcMlp(make_regressor())
    simulate(SMALL, controller)
    assert len(controller._pairs) == 0
