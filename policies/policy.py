"""What was learned: a small network from what a controller sees to a window, and where it came from.

A `Policy` that exists has been checked: its features, shapes and numbers are fit for use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.window_tree import WindowTree
from policies.errors import PolicyError
from policies.header import PolicyHeader
from policies.kinds import KINDS, TREE
from policies.tree_nodes import check_tree


class Layer(NamedTuple):
    """An affine layer: weight (out, in) and bias (out,), both float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Policy:
    """A network of the header's kind: scaled features in, logits of the windows 0..max_window or one window
    out; or a tree.

    The layers of `logits`, `priced` and `stacked` follow one another. Of a `regressor` the first leads into blocks of
    two, each of which adds to what it was given, and the last leads out (`policies.regressor`). A `tree` has no layers.
    """

    header: PolicyHeader
    layers: tuple[Layer, ...]
    tree: WindowTree | None = None

    def __post_init__(self) -> None:
        is_tree = self.header.kind == TREE
        if is_tree != (self.tree is not None):
            raise PolicyError("it has no tree" if is_tree else f"a policy of {self.header.kind} has no tree")
        if self.tree is not None:
            check_tree(self.tree, self.header.max_window)
        elif not self.layers:
            raise PolicyError("it has no layers")
        width = len(self.header.feature_names)
        for index, layer in enumerate(self.layers):
            _check_layer(index, layer, width)
            width = len(layer.bias)
        thresholds = len(self.header.stop_thresholds)
        KINDS[self.header.kind].check_widths(self.widths[1:], self.header.max_window, thresholds)

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the number of inputs, then each layer's outputs."""
        return (len(self.header.feature_names), *(len(layer.bias) for layer in self.layers))

    @property
    def parameters(self) -> int:
        """Return how many weights and biases there are; of a tree, how many nodes."""
        if self.tree is not None:
            return len(self.tree.feature)
        return sum(layer.weight.size + layer.bias.size for layer in self.layers)


def _check_layer(index: int, layer: Layer, inputs: int) -> None:
    for name, array, dimensions in (("weight", layer.weight, 2), ("bias", layer.bias, 1)):
        if array.dtype != np.float32:
            raise PolicyError(f"layer{index}.{name} is {array.dtype}, not float32")
        if array.ndim != dimensions or array.size == 0:
            raise PolicyError(f"layer{index}.{name} has shape {array.shape}, not {dimensions} dimension(s)")
        if not np.isfinite(array).all():
            raise PolicyError(f"layer{index}.{name} holds NaN or infinity")
    outputs, given = layer.weight.shape
    if given != inputs:
        source = "there are {} features" if index == 0 else f"layer{index - 1} gives {{}}"
        raise PolicyError(f"layer{index}.weight takes {given} inputs, but {source.format(inputs)}")
    if outputs != len(layer.bias):
        raise PolicyError(f"layer{index}.weight gives {outputs} outputs, but its bias has {len(layer.bias)}")
