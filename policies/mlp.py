"""Decide with a policy of logits, priced or stacked, in numpy, and count what training had not seen.

A lone observation goes through the network twice, as two rows: BLAS has another kernel for a vector, whose sums differ
in the last bit, so that a decision would depend on how many were taken at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import Observation, scaled, to_array
from dsd_gym.priced_inputs import ASKED, priced, priced_many
from dsd_gym.records import Decision
from policies.errors import PolicyError
from policies.kinds import LOGITS, PRICED, STACKED
from policies.policy import Policy
from policies.ranges import seen_ranges

Array = NDArray[np.float32]


class PolicyRunner:
    """A policy at work. Holds buffers and counters, so it serves any number of streams but one thread."""

    def __init__(self, policy: Policy) -> None:
        if policy.header.kind not in (LOGITS, PRICED, STACKED):
            raise PolicyError(f"a {policy.header.kind} has no logits")
        self.policy = policy
        self.seen = seen_ranges(policy.header)
        """Counts what training had not seen."""
        self._thresholds = policy.header.stop_thresholds
        self._priced = policy.header.kind != LOGITS
        self._relu = policy.header.activation == "relu"
        self._layers = [(np.ascontiguousarray(layer.weight.T), layer.bias) for layer in policy.layers]
        self._pair = np.empty((2, len(policy.header.feature_names)), np.float32)
        self._buffers = [np.empty((2, len(layer.bias)), np.float32) for layer in policy.layers]

    def decide(self, observation: Observation, past: Sequence[float] = ()) -> Decision:
        """Return the window of the highest logit (the shortest one of equals), and a threshold where one is chosen.

        `past` is what a stacked policy remembers of the request (`policies.past_rounds`).
        """
        self._pair[:, : len(observation)] = to_array(observation)
        if self._priced:
            self._pair[:, len(observation) : len(ASKED)] = priced(observation)
        self._pair[:, len(ASKED) :] = past
        self.seen.count(self._pair[0])
        logits = self._forward(self._pair, self._buffers)[0]
        if not self._thresholds:
            return Decision(int(logits.argmax()))
        windows = self.policy.header.max_window + 1
        threshold = self._thresholds[int(logits[windows:].argmax())]
        return Decision(int(logits[:windows].argmax()), threshold or None)

    def decide_many(
        self, seen: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, NDArray[np.bool_]]:
        """Return windows, thresholds (-1: none) or None, and what is far outside all that training has seen.

        `seen` has features in their own units, (n, features): a stacked policy needs more. Decisions are those of
        `decide`; nothing is counted.
        """
        inputs = scaled(seen)
        if self._priced:
            inputs = np.hstack([inputs, priced_many(seen)])
        logits, far = self.logits(inputs), self.seen.far(inputs)
        count = self.policy.header.max_window + 1
        windows: NDArray[np.int64] = logits[:, :count].argmax(axis=1)
        if not self._thresholds:
            return windows, None, far
        thresholds = np.array([value or -1.0 for value in self._thresholds])
        return windows, thresholds[logits[:, count:].argmax(axis=1)], far

    def logits(self, inputs: Array) -> Array:
        """Return the logits for scaled inputs; count nothing.

        Inputs (n_inputs,) give logits (max_window + 1 + thresholds,), and (n, n_inputs) give (n, ...).
        """
        rows = np.atleast_2d(inputs)
        if len(rows) == 1:
            rows = np.repeat(rows, 2, axis=0)
        logits = self._forward(rows, [None] * len(self._layers))
        return logits[0] if inputs.ndim == 1 else logits[: len(inputs)]

    def _forward(self, values: Array, buffers: Sequence[Array | None]) -> Array:
        last = len(self._layers) - 1
        for index, (weight, bias) in enumerate(self._layers):
            values = np.dot(values, weight, out=buffers[index])
            values += bias
            if index == last:
                break
            if self._relu:
                np.maximum(values, 0.0, out=values)
            else:
                np.tanh(values, out=values)
        return values
