import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dsd_gym.observation import FEATURE_NAMES, FEATURES, Observation, to_array
from policies import Layer, Policy, PolicyError, PolicyHeader, PolicyRunner, load_policy, save_policy
from policies.format import MAX_FILE_BYTES, METADATA_KEY
from policies.header import FORMAT_VERSION

USUAL = Observation(
    acceptance_estimate=0.7,
    last_window=4,
    last_accepted=3,
    all_accepted=False,
    has_last_round=True,
    first_guess_confidence=0.5,
    has_first_guess=True,
    last_mean_confidence=0.6,
    has_last_confidence=True,
    cloud_mode=False,
    draft_ms_per_token=20.0,
    last_rtt_ms=30.0,
    smoothed_rtt_ms=31.0,
    rtt_deviation_ms=4.0,
    uplink_ms_per_token=0.3,
    queue_wait_ms=5.0,
    iteration_ms=26.0,
    batch_size=8,
    iteration_tokens=40,
    marginal_ms_per_token=0.1,
    one_token_iteration_ms=20.0,
    report_age_ms=15.0,
    catch_up_ms=0.0,
    context_tokens=400,
    committed_tokens=60,
)


def make_header(**changes: Any) -> PolicyHeader:
    values: dict[str, Any] = {
        "max_window": 12,
        "activation": "tanh",
        "feature_ranges": {name: (0.0, feature.high) for name, feature in FEATURES.items()},
        "scenario_ranges": {"rtt_ms": [5, 200]},
        "training_config": {"ppo": {"learning_rate": 3e-4}},
        "config_hash": "0123abcd",
        "seed": 7,
        "package_version": "0.1.0",
        "command": "python train.py configs/train/small.yaml",
        "evaluation": {"relative_latency": 0.93},
    }
    return PolicyHeader(**values | changes)


def make_layers(*widths: int, seed: int = 0) -> tuple[Layer, ...]:
    random = np.random.default_rng(seed)
    return tuple(
        Layer(
            random.normal(0, 1 / inputs**0.5, (outputs, inputs)).astype(np.float32),
            random.normal(0, 0.3, outputs).astype(np.float32),
        )
        for inputs, outputs in pairwise(widths)
    )


def make_policy(*hidden: int, **header: Any) -> Policy:
    made = make_header(**header)
    return Policy(made, make_layers(len(FEATURE_NAMES), *hidden, made.max_window + 1))


def write(path: Path, header: Any = None, **tensors: Any) -> Path:
    """Write a policy file by hand, so that it can be wrong."""
    layers = make_layers(len(FEATURE_NAMES), 8, 13)
    contents = {f"layer{i}.{part}": getattr(x, part) for i, x in enumerate(layers) for part in x._fields}
    contents |= {name.replace("_", "."): tensor for name, tensor in tensors.items()}
    header = header if header is not None else asdict(make_header())
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({k: v for k, v in contents.items() if v is not None}, path, metadata={METADATA_KEY: text})
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, **options)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1
    return line


# The file


def test_a_policy_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    policy = make_policy(64, 64)
    save_policy(policy, tmp_path / "p.safetensors")
    loaded = load_policy(tmp_path / "p.safetensors")
    assert loaded.header == policy.header
    assert loaded.widths == policy.widths == (25, 64, 64, 13)
    assert loaded.parameters == policy.parameters
    for ours, theirs in zip(policy.layers, loaded.layers, strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight)
        np.testing.assert_array_equal(ours.bias, theirs.bias)
    assert (tmp_path / "p.safetensors").stat().st_size < 40_000


def test_a_transposed_view_is_saved_as_its_values(tmp_path: Path) -> None:
    layers = tuple(Layer(np.asfortranarray(weight), bias) for weight, bias in make_layers(25, 8, 13))
    save_policy(Policy(make_header(), layers), tmp_path / "p.safetensors")
    np.testing.assert_array_equal(load_policy(tmp_path / "p.safetensors").layers[0].weight, layers[0].weight)


def test_saving_replaces_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_policy(make_policy(seed=1), path)
    save_policy(make_policy(seed=2), str(path))
    assert load_policy(path).header.seed == 2
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("broken", ["replace", "open"])
def test_a_failed_save_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "p.safetensors"
    save_policy(make_policy(seed=1), path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail)
        with pytest.raises(PolicyError, match="No space left"):
            save_policy(make_policy(seed=2), path)
    assert load_policy(path).header.seed == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(1.0)])
def test_a_header_that_is_no_json_is_not_saved(tmp_path: Path, value: Any) -> None:
    with pytest.raises(PolicyError, match="not plain JSON"):
        save_policy(make_policy(evaluation={"x": value}), tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


def test_saving_into_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere/p\.safetensors: cannot be written: No such file"):
        save_policy(make_policy(), tmp_path / "nowhere/p.safetensors")


# Refusals


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.safetensors")
    assert "not a file" in refusal(tmp_path)


def test_other_features_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    header = asdict(make_header())
    renamed = ["weather" if name == "last_rtt_ms" else name for name in FEATURE_NAMES]
    line = refusal(write(path, header | {"feature_names": renamed}))
    assert "it lacks last_rtt_ms" in line and "unknown here: weather" in line
    swapped = [FEATURE_NAMES[1], FEATURE_NAMES[0], *FEATURE_NAMES[2:]]
    assert f"another order, from {FEATURE_NAMES[1]}" in refusal(
        write(path, header | {"feature_names": swapped})
    )
    assert "another order" in refusal(
        write(path, header | {"feature_names": [*FEATURE_NAMES, "all_accepted"]})
    )


def test_other_scaling_is_refused(tmp_path: Path) -> None:
    header = asdict(make_header())
    header["feature_scaling"]["last_rtt_ms"] = [2000.0, 1.0]
    assert "last_rtt_ms was scaled by (high, knee) (2000.0, 1.0)" in refusal(write(tmp_path / "p", header))


def test_a_newer_format_is_refused_before_anything_else(tmp_path: Path) -> None:
    path = write(tmp_path / "p", {"format_version": FORMAT_VERSION + 1, "surprise": True}, layer9_bias=np.ones(3))
    assert refusal(path) == f"{path}: format {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}: upgrade dsd-gym"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format_version": "1"}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"activation": "gelu"}, "unknown activation 'gelu': known are tanh, relu"),
        ({"activation": 3}, "activation must be str, not int"),
        ({"max_window": 0}, "max_window must be 1 to 16, not 0"),
        ({"max_window": 17}, "max_window must be 1 to 16, not 17"),
        ({"max_window": 11}, "the last layer gives 13 logits, but max_window 11 needs 12"),
        ({"max_window": "12"}, "max_window must be int, not str"),
        ({"seed": True}, "seed must be int, not bool"),
        ({"evaluation": []}, "evaluation must be dict, not list"),
        ({"feature_names": "abc"}, "feature_names must be a list of names"),
        ({"feature_ranges": {}}, "feature_ranges must name every feature"),
        ({"feature_ranges": [1]}, "feature_ranges must be an object"),
        ({"feature_ranges": {"last_window": [0]}}, "last_window must be two numbers"),
        (
            {"feature_ranges": dict.fromkeys(FEATURE_NAMES, (2, 1))},
            "acceptance_estimate runs from 2.0 to 1.0",
        ),
        ({"feature_ranges": dict.fromkeys(FEATURE_NAMES, (0, 10**400))}, "a number past floating point"),
        ({"hidden": 64}, "unknown key hidden"),
        ({"kind": "forest"}, "unknown kind 'forest': known are logits, priced, stacked, regressor, tree"),
        ({"kind": "regressor"}, "activation 'tanh': known are silu"),
        ({"kind": "regressor", "activation": "silu"}, "unknown here: acceptance_estimate"),
        ({"format_version": 1}, "unknown key kind"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in refusal(write(tmp_path / "p", asdict(make_header()) | changes))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '{"seed": NaN}', "1" * 9999])
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    assert "header" in refusal(write(tmp_path / "p", text))


def test_a_missing_header_key_is_refused(tmp_path: Path) -> None:
    header = asdict(make_header())
    del header["command"]
    assert "no key command" in refusal(write(tmp_path / "p", header))


def test_a_safetensors_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "p")
    assert "not a policy" in refusal(tmp_path / "p")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"layer0_weight": np.full((8, 25), np.nan, np.float32)}, "layer0.weight holds NaN or infinity"),
        ({"layer1_bias": np.full(13, np.inf, np.float32)}, "layer1.bias holds NaN or infinity"),
        ({"layer0_weight": np.zeros((8, 24), np.float32)}, "takes 24 inputs, but there are 25 features"),
        ({"layer1_weight": np.zeros((13, 9), np.float32)}, "takes 9 inputs, but layer0 gives 8"),
        ({"layer1_weight": np.zeros((12, 8), np.float32)}, "gives 12 outputs, but its bias has 13"),
        ({"layer0_weight": np.zeros((8, 25))}, "layer0.weight is F64, not F32"),
        ({"layer0_weight": np.zeros(25, np.float32)}, "layer0.weight has shape (25,)"),
        ({"layer0_bias": np.zeros(0, np.float32)}, "layer0.bias has shape (0,)"),
        ({"layer1_bias": None}, "no tensor layer1.bias"),
        ({"layer2_bias": np.zeros(13, np.float32)}, "no tensor layer2.weight"),
        ({"critic": np.zeros(13, np.float32)}, "unknown tensor critic"),
    ],
)
def test_wrong_layers_are_refused(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    assert says in refusal(write(tmp_path / "p", **tensors))


def test_no_layers_are_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "p", metadata={METADATA_KEY: json.dumps(asdict(make_header()))})
    assert "no layers" in refusal(tmp_path / "p")


def test_a_policy_cannot_be_made_wrong_in_memory() -> None:
    with pytest.raises(PolicyError, match="float64"):
        Policy(make_header(), tuple(Layer(w.astype(np.float64), b) for w, b in make_layers(25, 13)))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="activation"):
        replace(make_header(), activation="swish")


def test_a_longer_window_than_the_caller_serves_is_refused(tmp_path: Path) -> None:
    save_policy(make_policy(), tmp_path / "p")
    assert "windows of 12; at most 8 can be served" in refusal(tmp_path / "p", max_window=8)
    assert load_policy(tmp_path / "p", max_window=12).header.max_window == 12
    assert load_policy(tmp_path / "p", max_window=16).header.max_window == 12


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_recognised_and_never_loaded(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps({"weights": [1.0] * 100}, protocol))
    line = refusal(tmp_path / "p")
    assert "looks like a pickle" in line and "export" in line


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("_stable_baselines3_version", "a stable-baselines3 checkpoint"),
        ("archive/data.pkl", "a torch checkpoint"),
        ("a.npy", "a zip archive"),
    ],
)
@pytest.mark.parametrize("size", [10, MAX_FILE_BYTES + 1])
def test_a_checkpoint_is_recognised_whatever_its_size(
    tmp_path: Path, member: str, says: str, size: int
) -> None:
    with zipfile.ZipFile(tmp_path / "p", "w") as archive:
        archive.writestr(member, b"x" * size)
    line = refusal(tmp_path / "p")
    assert f"looks like {says}" in line and "export" in line


def test_a_file_too_large_for_a_policy_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "p").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "too large for a policy" in refusal(tmp_path / "p")


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    save_policy(make_policy(4), tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for length in [*range(16), *range(16, len(data), 97), len(data) - 1]:
        (tmp_path / "p").write_bytes(data[:length])
        assert "truncated" in refusal(tmp_path / "p")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_corrupt_file_is_refused_or_sound(tmp_path: Path, changes: list[tuple[float, int]]) -> None:
    path = tmp_path / "p"
    save_policy(make_policy(4), path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path.write_bytes(data)
    try:
        policy = load_policy(path)
    except PolicyError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
    else:
        assert 0 <= PolicyRunner(policy).decide(USUAL).window <= 12


# The decision


def reference_logits(policy: Policy, features: Any) -> Any:
    values = np.asarray(features, np.float64)
    for layer in policy.layers[:-1]:
        values = layer.weight.astype(np.float64) @ values + layer.bias
        values = np.tanh(values) if policy.header.activation == "tanh" else np.maximum(values, 0)
    return policy.layers[-1].weight.astype(np.float64) @ values + policy.layers[-1].bias


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (8,), (64, 64), (7, 33, 5)])
def test_forward_is_the_network_in_float64(activation: str, hidden: tuple[int, ...]) -> None:
    policy = make_policy(*hidden, activation=activation)
    runner = PolicyRunner(policy)
    batch = np.random.default_rng(1).random((50, 25)).astype(np.float32)
    expected = np.array([reference_logits(policy, features) for features in batch])
    single = np.array([runner.logits(features) for features in batch])
    np.testing.assert_allclose(single, expected, atol=2e-6)
    np.testing.assert_allclose(runner.logits(batch), single, atol=2e-6)


def test_window_is_the_argmax_of_the_logits() -> None:
    runner = PolicyRunner(make_policy(64, 64, activation="relu"))
    random = np.random.default_rng(2)
    highs = np.array([feature.high for feature in FEATURES.values()])
    chosen = set()
    for _ in range(300):
        observation = Observation(*(random.random(25) ** 3 * highs).tolist())
        chosen.add(window := runner.decide(observation).window)
        assert window == int(np.argmax(runner.logits(to_array(observation))))
        assert runner.decide(observation).window == window
    assert len(chosen) > 2


def test_deciding_changes_neither_the_policy_nor_earlier_answers() -> None:
    policy = make_policy(16)
    before = [layer.weight.copy() for layer in policy.layers]
    runner = PolicyRunner(policy)
    logits = runner.logits(to_array(USUAL))
    kept = logits.copy()
    runner.decide(USUAL._replace(cloud_mode=True))
    np.testing.assert_array_equal(logits, kept)
    for layer, weight in zip(policy.layers, before, strict=True):
        np.testing.assert_array_equal(layer.weight, weight)


def test_counts_what_training_had_not_seen() -> None:
    ranges = {name: (0.0, feature.high) for name, feature in FEATURES.items()}
    runner = PolicyRunner(
        make_policy(feature_ranges=ranges | {"last_rtt_ms": (5, 200), "last_window": (1, 8)})
    )
    runner.decide(USUAL)
    seen = runner.seen
    assert (seen.decisions, seen.out_of_range_decisions, seen.out_of_range) == (1, 0, {})
    runner.decide(USUAL._replace(last_rtt_ms=201.0))
    runner.decide(USUAL._replace(last_rtt_ms=4.0, last_window=9))
    runner.decide(USUAL._replace(last_window=0))
    runner.decide(USUAL._replace(acceptance_estimate=float("nan")))
    assert (seen.decisions, seen.out_of_range_decisions, seen.far_decisions) == (5, 4, 2)
    assert seen.out_of_range == {"acceptance_estimate": 1, "last_window": 2, "last_rtt_ms": 2}


@given(st.lists(st.floats(0, 1), min_size=25, max_size=25), st.floats(0, 1))
def test_the_ends_of_a_range_are_inside_it(shares: list[float], share: float) -> None:
    highs = [feature.high for feature in FEATURES.values()]
    low = Observation(*[share * high * s for s, high in zip(shares, highs, strict=True)])
    high = Observation(*[high * s for s, high in zip(shares, highs, strict=True)])
    ranges = dict(zip(FEATURE_NAMES, zip(low, high, strict=True), strict=True))
    runner = PolicyRunner(make_policy(feature_ranges=ranges))
    runner.decide(low)
    runner.decide(high)
    assert runner.seen.out_of_range_decisions == 0


def test_importing_policies_loads_neither_simulator_nor_trainer() -> None:
    code = "import sys, policies, policies.inspect; print(*{name.partition('.')[0] for name in sys.modules})"
    root = Path(__file__).parents[1]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert not {"simpy", "gymnasium", "torch", "stable_baselines3", "yaml", "agents"} & set(
        loaded.stdout.split()
    )


@pytest.mark.parametrize("thresholds", [(), (0.0, 0.3, 0.7)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_many_at_once_are_decided_as_each_alone_to_the_last_bit(
    activation: str, thresholds: tuple[float, ...]
) -> None:
    """How many rows are taken together changes no logit."""
    widths = len(FEATURE_NAMES), 64, 64, 9 + len(thresholds)
    header = make_header(max_window=8, activation=activation, stop_thresholds=thresholds)
    runner = PolicyRunner(Policy(header, make_layers(*widths)))
    highs = np.array([feature.high for feature in FEATURES.values()])
    seen = highs * np.random.default_rng(0).random((301, len(highs))) ** 4
    features = np.array([to_array(Observation(*row)) for row in seen])
    alone = np.array([runner.logits(row) for row in features])
    for count in (1, 2, 7, 64, 301):
        parts = [runner.logits(features[at : at + count]) for at in range(0, len(features), count)]
        np.testing.assert_array_equal(np.concatenate(parts), alone)
    windows, stops, _ = runner.decide_many(seen)
    decisions = [runner.decide(Observation(*row)) for row in seen.tolist()]
    assert windows.tolist() == [decision.window for decision in decisions] and len(set(windows.tolist())) > 1
    told = [-1.0] * len(seen) if stops is None else stops.tolist()
    assert told == [-1.0 if decision.stop_threshold is None else decision.stop_threshold for decision in decisions]
