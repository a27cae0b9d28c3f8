"""The tree of a policy file: its tensors, and all that must hold before one is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym.priced_inputs import ASKED
from dsd_gym.window_tree import LEAF, WindowTree
from policies.errors import PolicyError

TENSOR_TYPES = {"feature": "I32", "threshold": "F64", "left": "I32", "right": "I32", "window": "I32"}
"""Each of shape (nodes,), named `tree.feature` and so on."""
_HIGH = tuple(feature.high for feature in ASKED.values())
"""Thresholds are below: so it is the same whether values are clipped to their bounds, as a network's are, or not."""
MAX_NODES = 2047
MAX_DEPTH = 64
"""A tree is to be read by people; this is far more than anyone will."""


def to_tensors(tree: WindowTree) -> dict[str, NDArray[Any]]:
    """Return the tensors that a file holds of a tree."""
    return {
        f"tree.{name}": np.array(values, np.float64 if TENSOR_TYPES[name] == "F64" else np.int32)
        for name, values in tree._asdict().items()
    }


def from_tensors(tensors: Mapping[str, NDArray[Any]]) -> WindowTree:
    """Return the tree of a file's tensors; PolicyError unless they are just those, each of one dimension."""
    expected = {f"tree.{name}" for name in TENSOR_TYPES}
    if wrong := sorted(expected ^ tensors.keys()):
        described = (f"{'no' if name in expected else 'unknown'} tensor {name}" for name in wrong)
        raise PolicyError(f"a tree must be tree.feature, tree.threshold, ...: {', '.join(described)}")
    for name, tensor in tensors.items():
        if tensor.ndim != 1:
            raise PolicyError(f"{name} has shape {tensor.shape}, not 1 dimension")
    return WindowTree(*(tuple(tensors[f"tree.{name}"].tolist()) for name in WindowTree._fields))


def check_tree(tree: WindowTree, max_window: int) -> None:
    """Raise PolicyError unless it is one tree, every node of which is reached once and makes sense.

    Children stand after their parent, so no way down is endless.
    """
    nodes = len(tree.feature)
    if not 1 <= nodes <= MAX_NODES:
        raise PolicyError(f"a tree has 1 to {MAX_NODES} nodes, not {nodes}")
    for name, values in tree._asdict().items():
        if len(values) != nodes:
            raise PolicyError(f"tree.{name} has {len(values)} nodes, but tree.feature has {nodes}")
    for node in range(nodes):
        _check_node(tree, node, nodes, max_window)
    children = sorted(child for side in (tree.left, tree.right) for child in side if child != LEAF)
    if children != list(range(1, nodes)):
        raise PolicyError("tree: every node but the first must be the child of exactly one other")
    depths = [0] * nodes
    for node, (left, right) in enumerate(zip(tree.left, tree.right, strict=True)):
        if left != LEAF:
            depths[left] = depths[right] = depths[node] + 1
    if max(depths) > MAX_DEPTH:
        raise PolicyError(f"tree: its longest way down has {max(depths)} questions, more than {MAX_DEPTH}")


def _check_node(tree: WindowTree, node: int, nodes: int, max_window: int) -> None:
    feature, threshold, left, right = tree.feature[node], tree.threshold[node], tree.left[node], tree.right[node]
    if feature == LEAF:
        if (threshold, left, right) != (0.0, LEAF, LEAF):
            raise PolicyError(f"tree: node {node} is a leaf: its threshold must be 0 and its children {LEAF}")
        if not 0 <= tree.window[node] <= max_window:
            raise PolicyError(f"tree: node {node} has window {tree.window[node]}, not one of 0 to {max_window}")
    elif not 0 <= feature < len(_HIGH):
        raise PolicyError(f"tree: node {node} asks for feature {feature}; there are 0 to {len(_HIGH) - 1}")
    elif not (node < left < nodes and node < right < nodes):
        raise PolicyError(f"tree: node {node} leads to {left} and {right}, not to nodes {node + 1} to {nodes - 1}")
    elif not 0.0 <= threshold < _HIGH[feature]:
        high = f"{_HIGH[feature]:g}"
        raise PolicyError(f"tree: node {node} has threshold {threshold:g}, not one from 0 to less than {high}")
