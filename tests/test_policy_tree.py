"""Trees as policies: the file, its refusals, what is decided, and that it is what scikit-learn fitted."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.tree import DecisionTreeClassifier
from test_inspect import inspect
from test_policies import USUAL, make_header, make_layers, make_policy, refusal
from test_vector_rules import observations

from agents import make_controller
from dsd_gym.observation import FEATURE_NAMES, FEATURES, Observation
from dsd_gym.priced_inputs import ASKED, asked, asked_many
from dsd_gym.records import Decision
from dsd_gym.window_tree import LEAF, WindowTree, as_lines
from policies import (
    TREE,
    Policy,
    PolicyError,
    PolicyRunner,
    TreeRunner,
    WindowRegressor,
    load_policy,
    save_policy,
    tree_policy,
)
from policies.format import METADATA_KEY
from policies.tree_nodes import MAX_DEPTH, MAX_NODES

RTT, LAST = FEATURE_NAMES.index("last_rtt_ms"), FEATURE_NAMES.index("last_window")
NEAR_OR_FAR = WindowTree((RTT, LEAF, LEAF), (40.0, 0.0, 0.0), (1, LEAF, LEAF), (2, LEAF, LEAF), (0, 6, 0))
COUNT, NODE = len(ASKED), WindowTree._fields
HIGH = np.array([feature.high for feature in FEATURES.values()])


def make_tree(tree: WindowTree = NEAR_OR_FAR, **header: Any) -> Policy:
    return tree_policy(make_policy(8, **header), tree, "python evaluate.py --explain p.safetensors", {})


def rewritten(path: Path, header: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """Save a tree, then change its header or tensors by hand; None takes a tensor out."""
    save_policy(make_tree(), path)
    contents = load_file(path) | {name.replace("_", "."): tensor for name, tensor in tensors.items()}
    text = json.dumps(asdict(make_tree().header) | (header or {}))
    save_file({name: x for name, x in contents.items() if x is not None}, path, metadata={METADATA_KEY: text})
    return path


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def chain(depth: int) -> WindowTree:
    """Return a tree that goes down and down on its right: questions at even places, leaves at odd ones and the end."""
    asks = [place % 2 == 0 and place < 2 * depth for place in range(2 * depth + 1)]
    left, right = (tuple(p + step if ask else LEAF for p, ask in enumerate(asks)) for step in (1, 2))
    feature, threshold = tuple(LAST if ask else LEAF for ask in asks), tuple(0.5 * ask for ask in asks)
    return WindowTree(feature, threshold, left, right, (1,) * len(asks))


def test_a_tree_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    policy = make_tree()
    save_policy(policy, tmp_path / "p.safetensors")
    loaded = load_policy(tmp_path / "p.safetensors", max_window=12)
    assert (loaded.header, loaded.tree, loaded.layers) == (policy.header, policy.tree, ())
    assert (loaded.header.kind, loaded.header.activation) == (TREE, "none")


def test_a_tree_is_a_controller_like_any_policy(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_policy(make_tree(), path)
    controller = make_controller(str(path), 12)
    assert controller.decide(USUAL._replace(last_rtt_ms=40.0), 0) == Decision(6)
    assert controller.decide(USUAL._replace(last_rtt_ms=40.001), 0) == Decision(0)
    with pytest.raises(ValueError, match="windows of 12; at most 8"):
        make_controller(str(path), 8)


def test_a_tree_counts_what_training_had_not_seen() -> None:
    ranges = {name: (0.0, feature.high) for name, feature in FEATURES.items()} | {"last_rtt_ms": (5.0, 100.0)}
    runner = TreeRunner(make_tree(feature_ranges=ranges))
    runner.decide(USUAL)
    runner.decide(USUAL._replace(last_rtt_ms=101.0))
    assert (runner.seen.decisions, runner.seen.out_of_range) == (2, {"last_rtt_ms": 1})


@pytest.mark.parametrize("leaves", [2, 7, 60])
def test_decides_as_scikit_learn_predicts(leaves: int) -> None:
    random = np.random.default_rng(leaves)
    rows = (random.random((800, len(HIGH))) * HIGH).astype(np.float32)
    fitted = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(rows, random.integers(13, size=800))
    nodes, inner = fitted.tree_, fitted.tree_.feature >= 0
    windows = fitted.classes_[nodes.value[:, 0].argmax(axis=1)]
    tree = WindowTree(
        tuple(np.where(inner, nodes.feature, LEAF).tolist()),
        tuple(np.where(inner, nodes.threshold, 0.0).tolist()),
        tuple(nodes.children_left.tolist()),
        tuple(nodes.children_right.tolist()),
        tuple(np.where(inner, 0, windows).tolist()),
    )
    runner = TreeRunner(make_tree(tree))
    others = (random.random((400, len(HIGH))) * HIGH).astype(np.float32)
    for met in (rows, others):
        predicted = fitted.predict(met)
        as_floats = met.astype(np.float64)
        np.testing.assert_array_equal(tree.choose_many(as_floats), predicted)
        observations = (type(USUAL)(*row) for row in as_floats.tolist())
        assert [runner.decide(observation).window for observation in observations] == predicted.tolist()


def test_questions_about_estimates_are_answered_alike_for_one_and_for_many() -> None:
    names = list(ASKED)
    rows = observations(400)
    estimates = asked_many(rows)
    assert [asked(Observation(*row)) for row in rows.tolist()] == estimates.tolist()
    for name in ("best_ms_per_token", "best_window", "cloud_over_edge_dear", "excess_8"):
        place = names.index(name)
        threshold = float(np.median(estimates[:, place]))
        tree = NEAR_OR_FAR._replace(feature=(place, LEAF, LEAF), threshold=(threshold, 0.0, 0.0))
        runner = TreeRunner(make_tree(tree))
        expected = np.where(estimates[:, place] <= threshold, 6, 0).tolist()
        assert set(expected) == {0, 6}
        assert tree.choose_many(rows).tolist() == expected
        assert [runner.decide(Observation(*row)).window for row in rows.tolist()] == expected


@given(st.floats(-1e9, 1e9))
def test_values_beyond_a_bound_count_as_the_bound(rtt_ms: float) -> None:
    high = FEATURES["last_rtt_ms"].high
    for threshold in (0.0, 40.0, np.nextafter(high, 0.0)):
        tree = NEAR_OR_FAR._replace(threshold=(threshold, 0.0, 0.0))
        clipped = min(max(rtt_ms, 0.0), high)
        make_tree(tree)
        assert tree.choose(USUAL._replace(last_rtt_ms=rtt_ms)) == tree.choose(USUAL._replace(last_rtt_ms=clipped))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"tree_feature": whole(COUNT, -1, -1)}, f"node 0 asks for feature {COUNT}; there are 0 to {COUNT - 1}"),
        ({"tree_feature": whole(-2, -1, -1)}, "node 0 asks for feature -2"),
        ({"tree_feature": whole(-1, -1, -1)}, "node 0 is a leaf: its threshold must be 0 and its children -1"),
        ({"tree_left": whole(0, -1, -1)}, "node 0 leads to 0 and 2, not to nodes 1 to 2"),
        ({"tree_left": whole(3, -1, -1)}, "node 0 leads to 3 and 2"),
        ({"tree_left": whole(-1, -1, -1)}, "node 0 leads to -1 and 2"),
        ({"tree_left": whole(2, -1, -1)}, "must be the child of exactly one other"),
        ({"tree_window": whole(0, 13, 0)}, "node 1 has window 13, not one of 0 to 12"),
        ({"tree_window": whole(0, -1, 0)}, "node 1 has window -1"),
        (
            {"tree_threshold": np.array([np.nan, 0.0, 0.0])},
            "node 0 has threshold nan, not one from 0 to less than 4000",
        ),
        ({"tree_threshold": np.array([4000.0, 0.0, 0.0])}, "node 0 has threshold 4000, not one"),
        ({"tree_threshold": np.array([40.0, 1.0, 0.0])}, "node 1 is a leaf"),
        ({"tree_threshold": np.zeros(3, np.float32)}, "tree.threshold is F32, not F64"),
        ({"tree_left": np.array([1, -1, -1])}, "tree.left is I64, not I32"),
        ({"tree_left": whole(1, -1)}, "tree.left has 2 nodes, but tree.feature has 3"),
        ({"tree_left": whole(1, -1, -1)[None]}, "tree.left has shape (1, 3)"),
        ({"tree_window": None}, "no tensor tree.window"),
        ({"layer0_weight": np.zeros((13, 25), np.float32)}, "unknown tensor layer0.weight"),
        (
            {f"tree_{name}": np.zeros(0, "f8" if name == "threshold" else "i4") for name in NODE},
            "1 to 2047 nodes, not 0",
        ),
    ],
)
def test_a_wrong_tree_is_refused(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    assert says in refusal(rewritten(tmp_path / "p", **tensors))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"activation": "tanh"}, "unknown activation 'tanh': known are none"),
        (asdict(make_policy(8).header), "unknown tensor tree.feature"),
        ({"kind": "logits", "activation": "tanh"}, "feature names differ from this version's: unknown here: best_ms"),
        ({"stop_thresholds": [0.5]}, "a tree chooses no stop threshold"),
        ({"format_version": 4}, "unknown kind 'tree' of format 4"),
        ({"max_window": 5}, "node 1 has window 6, not one of 0 to 5"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: dict[str, Any], says: str) -> None:
    assert says in refusal(rewritten(tmp_path / "p", header))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 71), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_corrupt_tree_is_refused_or_sound(changes: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "p"
        save_policy(make_tree(), path)
        data = bytearray(path.read_bytes())
        for place, value in changes:  # 3 nodes of 4 x 4 + 8 bytes stand at the end
            data[len(data) - 72 + place] = value
        path.write_bytes(data)
        try:
            policy = load_policy(path)
        except PolicyError:
            return
        assert 0 <= TreeRunner(policy).decide(USUAL).window <= 12


def test_a_file_of_format_2_still_loads(tmp_path: Path) -> None:
    save_policy(make_policy(8), tmp_path / "new")
    header = asdict(make_policy(8).header) | {"format_version": 2}
    save_file(load_file(tmp_path / "new"), tmp_path / "old", metadata={METADATA_KEY: json.dumps(header)})
    assert load_policy(tmp_path / "old").header == load_policy(tmp_path / "new").header


def test_a_tree_too_deep_or_too_large_to_be_read_is_refused() -> None:
    assert make_tree(chain(MAX_DEPTH)).tree is not None
    assert chain(MAX_DEPTH).depth == MAX_DEPTH and chain(MAX_DEPTH).leaves == MAX_DEPTH + 1
    with pytest.raises(PolicyError, match="longest way down has 65 questions"):
        make_tree(chain(MAX_DEPTH + 1))
    with pytest.raises(PolicyError, match="1 to 2047 nodes"):
        make_tree(chain(MAX_NODES))


def test_each_runner_takes_its_own_kind() -> None:
    with pytest.raises(PolicyError, match="a tree has no logits"):
        PolicyRunner(make_tree())
    with pytest.raises(PolicyError, match="a policy of tree is no regressor"):
        WindowRegressor(make_tree())
    with pytest.raises(PolicyError, match="a policy of logits is no tree"):
        TreeRunner(make_policy(8))


def test_a_policy_has_a_tree_or_layers_never_both() -> None:
    network = make_policy(8)
    with pytest.raises(PolicyError, match="a tree has no layers"):
        Policy(make_tree().header, make_layers(len(ASKED), 13), NEAR_OR_FAR)
    with pytest.raises(PolicyError, match="a policy of logits has no tree"):
        Policy(make_header(), network.layers, NEAR_OR_FAR)
    with pytest.raises(PolicyError, match="it has no tree"):
        Policy(make_tree().header, ())


def test_a_tree_has_the_header_of_the_policy_that_it_stands_for() -> None:
    network = make_policy(8, stop_thresholds=(), seed=11)
    header = tree_policy(network, NEAR_OR_FAR, "made so", {"latency": 1.02}).header
    same = {"activation": "tanh", "evaluation": network.header.evaluation, "command": network.header.command}
    inputs = {name: getattr(network.header, name) for name in ("kind", "feature_names", "feature_scaling")}
    seen = {name: header.feature_ranges[name] for name in FEATURE_NAMES}
    assert seen == network.header.feature_ranges
    assert replace(header, **same, **inputs, feature_ranges=seen) == network.header
    assert (header.command, header.evaluation) == ("made so", {"latency": 1.02})


def test_inspect_prints_the_questions_and_answers(tmp_path: Path) -> None:
    save_policy(make_tree(), tmp_path / "p.safetensors")
    printed = inspect(tmp_path / "p.safetensors")
    assert (printed.returncode, printed.stderr) == (0, "")
    for line in ("  last_rtt_ms <= 40 ms", "  |   window 6", "  last_rtt_ms >  40 ms", "  |   cloud"):
        assert line in printed.stdout.splitlines()
    assert "2 leaves, depth 1" in printed.stdout
    found = json.loads(inspect(tmp_path / "p.safetensors", "--json").stdout)
    assert found["tree"]["window"] == [0, 6, 0] and found["parameters"] == 3


def test_flags_read_as_what_they_say() -> None:
    tree = NEAR_OR_FAR._replace(feature=(FEATURE_NAMES.index("cloud_mode"), LEAF, LEAF), threshold=(0.5, 0.0, 0.0))
    lines = as_lines(tree, [0.0, 0.25, 0.75])
    assert lines[0::2] == ["not cloud_mode", "cloud_mode"]
    assert lines[1::2] == ["|   window 6  (25.0 % of decisions)", "|   cloud  (75.0 % of decisions)"]
