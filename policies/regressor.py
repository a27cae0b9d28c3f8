"""Predict a window with a policy that is a regressor, in numpy: a residual network with SiLU between its layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.errors import PolicyError
from policies.kinds import REGRESSOR
from policies.policy import Policy
from policies.ranges import seen_ranges
from policies.window_inputs import WindowInputs, scale_inputs

Array = NDArray[np.float32]


class WindowRegressor:
    """A regressor at work: h = in(x); for each block, h += second(silu(first(h))); window = out(silu(h)).

    Counts what training had not seen, so it serves any number of streams but one thread.
    """

    def __init__(self, policy: Policy) -> None:
        if policy.header.kind != REGRESSOR:
            raise PolicyError(f"a policy of {policy.header.kind} is no regressor")
        self.policy = policy
        self.seen = seen_ranges(policy.header)
        self._layers = [(np.ascontiguousarray(layer.weight.T), layer.bias) for layer in policy.layers]

    def predict(self, inputs: WindowInputs) -> float:
        """Return the window predicted, not rounded, in the header's 1..max_window or beyond it."""
        scaled = scale_inputs(inputs)
        self.seen.count(scaled)
        return float(self.windows(scaled)[0])

    def windows(self, scaled: Array) -> Array:
        """Return the windows predicted for scaled inputs; count nothing: (5,) gives (1,), and (n, 5) gives (n, 1)."""
        (first, first_bias), *blocks, (last, last_bias) = self._layers
        values: Array = scaled @ first + first_bias
        for (inner, inner_bias), (outer, outer_bias) in zip(blocks[0::2], blocks[1::2], strict=True):
            values += _silu(values @ inner + inner_bias) @ outer + outer_bias
        windows: Array = _silu(values) @ last + last_bias
        return windows


def _silu(values: Array) -> Array:
    """Return x / (1 + e^-x), by tanh, which does not overflow."""
    gate: Array = np.tanh(values * np.float32(0.5))
    gate += np.float32(1.0)
    gate *= values
    gate *= np.float32(0.5)
    return gate
