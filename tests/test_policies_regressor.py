"""The second kind of policy: its file, its refusals, and that its forward pass is the network torch fitted."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from test_policies import make_policy, refusal

from agents.awc_mlp_network import ResidualRegressor, fit, predict
from agents.train_config import Regressor
from policies import (
    REGRESSOR,
    Layer,
    Policy,
    PolicyError,
    PolicyHeader,
    PolicyRunner,
    WindowRegressor,
    load_policy,
    save_policy,
)
from policies.format import METADATA_KEY
from policies.window_inputs import WINDOW_INPUTS, WindowInputs, scale_inputs

USUAL = WindowInputs(0.4, 0.7, 30.0, 25.0, 5)


def make_header(**changes: Any) -> PolicyHeader:
    values: dict[str, Any] = {
        "kind": REGRESSOR,
        "max_window": 12,
        "activation": "silu",
        "feature_names": tuple(WINDOW_INPUTS),
        "feature_scaling": {name: (feature.high, feature.knee or 0.0) for name, feature in WINDOW_INPUTS.items()},
        "feature_ranges": {name: (0.0, feature.high) for name, feature in WINDOW_INPUTS.items()},
        "scenario_ranges": {},
        "training_config": {"learner": "awc_mlp"},
        "config_hash": "0123abcd",
        "seed": 0,
        "package_version": "0.1.0",
        "command": "python train.py configs/train/awc_mlp.yaml",
    }
    return PolicyHeader(**values | changes)


def make_network(width: int = 8, blocks: int = 2, seed: int = 0) -> ResidualRegressor:
    torch.manual_seed(seed)
    return ResidualRegressor(5, width, blocks)


def make_regressor(width: int = 8, blocks: int = 2, **header: Any) -> Policy:
    return Policy(make_header(**header), make_network(width, blocks).layers())


def rewritten(path: Path, header: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """Save a regressor, then change its header or tensors by hand; None takes a tensor out."""
    save_policy(make_regressor(), path)
    contents = load_file(path) | {name.replace("_", "."): tensor for name, tensor in tensors.items()}
    text = json.dumps(asdict(make_header()) | (header or {}))
    save_file({name: x for name, x in contents.items() if x is not None}, path, metadata={METADATA_KEY: text})
    return path


def test_a_regressor_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    policy = make_regressor(64)
    save_policy(policy, tmp_path / "p.safetensors")
    loaded = load_policy(tmp_path / "p.safetensors", max_window=12)
    assert loaded.header == policy.header
    assert loaded.widths == (5, 64, 64, 64, 64, 64, 1)
    for ours, theirs in zip(policy.layers, loaded.layers, strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight)
        np.testing.assert_array_equal(ours.bias, theirs.bias)


def test_a_file_of_format_1_still_loads_as_logits(tmp_path: Path) -> None:
    save_policy(make_policy(8), tmp_path / "new")
    header = asdict(load_policy(tmp_path / "new").header) | {"format_version": 1}
    header = {key: value for key, value in header.items() if key not in ("kind", "stop_thresholds")}
    save_file(load_file(tmp_path / "new"), tmp_path / "old", metadata={METADATA_KEY: json.dumps(header)})
    assert load_policy(tmp_path / "old").header == load_policy(tmp_path / "new").header


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activation": "tanh"}, "unknown activation 'tanh': known are silu"),
        ({"kind": "logits", "activation": "relu"}, "feature names differ"),
        ({"feature_names": ["rtt_ms", *list(WINDOW_INPUTS)[:-1]]}, "it lacks previous_window"),
        ({"feature_names": sorted(WINDOW_INPUTS)}, "another order, from acceptance_rate on"),
        ({"feature_scaling": dict.fromkeys(WINDOW_INPUTS, (1.0, 0.0))}, "rtt_ms was scaled by (high, knee) (1.0, 0.0)"),
        ({"feature_ranges": {"rtt_ms": (0.0, 1.0)}}, "feature_ranges must name every feature"),
        ({"max_window": 20}, "max_window must be 1 to 16"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in refusal(rewritten(tmp_path / "p", changes))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"layer0_weight": np.zeros((8, 4), np.float32)}, "takes 4 inputs, but there are 5 features"),
        ({"layer5_weight": None, "layer5_bias": None}, "two for each block and one at the end, not 5"),
        ({"layer5_weight": np.zeros((2, 8), np.float32), "layer5_bias": np.zeros(2, np.float32)}, "gives 2 outputs"),
        ({"layer3_bias": np.full(8, np.nan, np.float32)}, "layer3.bias holds NaN"),
    ],
)
def test_wrong_layers_are_refused(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    assert says in refusal(rewritten(tmp_path / "p", **tensors))


def test_a_block_that_cannot_add_to_its_input_is_refused() -> None:
    first, inner, outer, last = make_network(8, 1).layers()
    narrow = Layer(outer.weight[:7].copy(), outer.bias[:7].copy())
    with pytest.raises(PolicyError, match="layer2 gives 7 outputs, but its block adds them to 8"):
        Policy(make_header(), (first, inner, narrow, Layer(last.weight[:, :7].copy(), last.bias)))


def test_each_runner_takes_its_own_kind() -> None:
    with pytest.raises(PolicyError, match="a regressor has no logits"):
        PolicyRunner(make_regressor())
    with pytest.raises(PolicyError, match="a policy of logits is no regressor"):
        WindowRegressor(make_policy(8))


@pytest.mark.parametrize(("width", "blocks"), [(64, 2), (7, 1), (16, 3)])
def test_forward_is_what_torch_computes(width: int, blocks: int) -> None:
    network = make_network(width, blocks, seed=3)
    network.centre.copy_(torch.tensor([0.1, 0.7, 0.5, 0.4, 0.3]))
    network.spread.copy_(torch.tensor([0.2, 0.1, 0.3, 0.4, 1.5]))
    regressor = WindowRegressor(Policy(make_header(), network.layers()))
    scaled = np.random.default_rng(0).random((200, 5)).astype(np.float32)
    np.testing.assert_allclose(regressor.windows(scaled)[:, 0], predict(network, scaled), atol=1e-5)
    one = regressor.windows(scaled[0])
    np.testing.assert_allclose(one[0], predict(network, scaled[:1])[0], atol=1e-5)


def test_predict_scales_and_counts_what_training_had_not_seen() -> None:
    ranges = {name: (0.0, feature.high) for name, feature in WINDOW_INPUTS.items()} | {"rtt_ms": (5.0, 100.0)}
    regressor = WindowRegressor(make_regressor(feature_ranges=ranges))
    assert regressor.predict(USUAL) == pytest.approx(float(regressor.windows(scale_inputs(USUAL))[0]))
    regressor.predict(USUAL._replace(rtt_ms=101.0))
    assert (regressor.seen.decisions, regressor.seen.out_of_range) == (2, {"rtt_ms": 1})


@given(st.builds(WindowInputs, *[st.floats(-10, 1e6)] * 5))
def test_inputs_are_scaled_into_the_unit_interval(inputs: WindowInputs) -> None:
    scaled = scale_inputs(inputs)
    assert scaled.shape == (5,) and scaled.dtype == np.float32
    assert ((scaled >= 0.0) & (scaled <= 1.0)).all()


def test_fitting_with_l1_learns_the_median_and_the_same_seed_gives_the_same_network() -> None:
    random = np.random.default_rng(0)
    scaled = random.random((600, 5)).astype(np.float32)
    windows = np.where(random.random(600) < 0.7, 2.0 + 8.0 * scaled[:, 1], 12.0).astype(np.float32)
    settings = Regressor(width=16, epochs=60, minibatch=64, learning_rate=3e-3)
    told: list[float] = []
    network = fit(scaled, windows, settings, 0, lambda epoch, l1, network: told.append(l1))
    assert len(told) == 60 and told[-1] < 1.95 < told[0], "what cannot be learned is 0.3 x 6"
    error = np.abs(predict(network, scaled) - (2.0 + 8.0 * scaled[:, 1]))
    assert np.median(error) < 0.7, "the 30 % of outliers do not pull it, as they would a mean (by 1.8 and more)"
    again = fit(scaled, windows, settings, 0, lambda *_: None)
    np.testing.assert_array_equal(predict(again, scaled), predict(network, scaled))
