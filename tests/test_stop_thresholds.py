"""The second dimension of a decision, from the learner through the policy file to the controller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_policies import make_policy

import train
from agents import make_controller
from agents.network import SmoothWindows
from dsd_gym.acceptance import stopped_window
from dsd_gym.observation import FEATURE_NAMES, FEATURES, Observation, to_array
from dsd_gym.scenario_files import load_scenario
from dsd_gym.simulator import simulate
from policies import Layer, Policy, PolicyError, PolicyRunner, load_policy, save_policy

THRESHOLDS = (0.0, 0.2, 0.5)


def policy_with(thresholds: tuple[float, ...], outputs: int) -> Policy:
    plain = make_policy()
    random = np.random.default_rng(0)
    header = plain.header
    values = {name: getattr(header, name) for name in header.__dataclass_fields__}
    width = len(FEATURE_NAMES)
    layer = Layer(random.normal(size=(outputs, width)).astype(np.float32), np.zeros(outputs, np.float32))
    return Policy(type(header)(**values | {"stop_thresholds": thresholds}), (layer,))


def some_observation(seed: int) -> Observation:
    random = np.random.default_rng(seed)
    highs = np.array([feature.high for feature in FEATURES.values()])
    return Observation(*(random.random(len(highs)) ** 6 * highs).tolist())  # type: ignore[arg-type]


def test_a_policy_chooses_window_and_threshold_apart(tmp_path: Path) -> None:
    max_window = make_policy().header.max_window
    save_policy(policy_with(THRESHOLDS, max_window + 1 + 3), tmp_path / "two.safetensors")
    policy = load_policy(tmp_path / "two.safetensors")
    assert policy.header.stop_thresholds == THRESHOLDS
    runner, chosen = PolicyRunner(policy), set()
    for seed in range(30):
        observation = some_observation(seed)
        logits = policy.layers[0].weight @ to_array(observation)
        decision = runner.decide(observation)
        assert decision.window == int(logits[: max_window + 1].argmax())
        assert decision.stop_threshold == (THRESHOLDS[int(logits[max_window + 1 :].argmax())] or None)
        chosen.add(decision.stop_threshold)
    assert chosen == {None, 0.2, 0.5}


@pytest.mark.parametrize(
    ("thresholds", "extra", "said"),
    [((0.5,), 0, "and 1 thresholds needs"), ((1.5,), 1, "stop_thresholds must be numbers from 0 to 1")],
)
def test_a_policy_whose_thresholds_do_not_fit_is_refused(thresholds: tuple[float, ...], extra: int, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        policy_with(thresholds, make_policy().header.max_window + 1 + extra)


def test_drafting_stops_with_the_token_at_which_the_product_falls_under_the_threshold() -> None:
    assert stopped_window([0.9, 0.9, 0.5, 0.9], 0.5) == 3
    assert stopped_window([0.9, 0.9], 0.5) == 2
    assert stopped_window([0.1, 0.9], 0.5) == 1
    assert stopped_window([0.5, 0.9], 0.5) == 2  # equal is not under
    assert stopped_window([0.9] * 5, 0.0) == 5


def test_threshold_logits_are_free_and_window_logits_smooth() -> None:
    smooth = SmoothWindows(13, 3)
    weights = smooth(torch.eye(7))
    assert weights.shape == (16, 7)
    assert torch.equal(weights[13:, 4:], torch.eye(3)) and not weights[:13, 4:].any() and not weights[13:, :4].any()
    restored = smooth(smooth.right_inverse(weights))
    assert torch.allclose(restored, weights, atol=1e-5)


@pytest.mark.slow
def test_ppo_learns_and_exports_both_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "POLICIES", tmp_path)
    smoke = Path(train.__file__).parent / "configs/train/smoke.yaml"
    train.main([str(smoke), "name=two", "decisions=4_000", "stop_thresholds=[0.0, 0.3]"])
    scenario = load_scenario("train/single", {"max_requests": 10})
    controller = make_controller(str(tmp_path / "two.safetensors"), scenario.max_window)
    rounds = simulate(scenario, controller, 0).rounds
    assert rounds and all(round.drafted <= round.window for round in rounds)
