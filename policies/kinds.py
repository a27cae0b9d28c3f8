"""The kinds of policy: what each takes in, how its layers hang together, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dsd_gym.observation import FEATURES, Feature
from dsd_gym.priced_inputs import ASKED
from policies.errors import PolicyError
from policies.past_rounds import PAST_INPUTS
from policies.window_inputs import WINDOW_INPUTS

LOGITS, PRICED, STACKED, REGRESSOR, TREE = "logits", "priced", "stacked", "regressor", "tree"

Pairs = dict[str, tuple[float, float]]


class Kind(NamedTuple):
    """One architecture."""

    meaning: str
    features: dict[str, Feature]
    activations: tuple[str, ...]
    check_widths: Callable[[Sequence[int], int, int], None]
    """Raises PolicyError for (each layer's outputs, max_window, stop thresholds) that do not make such a network."""

    def scaling(self) -> Pairs:
        """Return {feature: (high, knee)} as inputs are scaled today; knee 0 means linear."""
        return {name: (feature.high, feature.knee or 0.0) for name, feature in self.features.items()}


def _check_logits(widths: Sequence[int], max_window: int, thresholds: int) -> None:
    if widths[-1] != max_window + 1 + thresholds:
        also = f" and {thresholds} thresholds" if thresholds else ""
        needed = f"max_window {max_window}{also} needs {max_window + 1 + thresholds}"
        raise PolicyError(f"the last layer gives {widths[-1]} logits, but {needed}")


def _check_regressor(widths: Sequence[int], max_window: int, thresholds: int) -> None:
    if thresholds:
        raise PolicyError("a regressor chooses no stop threshold")
    *hidden, last = widths
    if len(hidden) % 2 == 0:
        raise PolicyError(f"a regressor has an input layer, two for each block and one at the end, not {len(widths)}")
    for index in range(2, len(hidden), 2):
        if hidden[index] != hidden[0]:
            raise PolicyError(f"layer{index} gives {hidden[index]} outputs, but its block adds them to {hidden[0]}")
    if last != 1:
        raise PolicyError(f"the last layer gives {last} outputs, but a regressor predicts one window")


def _check_tree(widths: Sequence[int], max_window: int, thresholds: int) -> None:
    if widths:
        raise PolicyError("a tree has no layers")
    if thresholds:
        raise PolicyError("a tree chooses no stop threshold")


KINDS = {
    LOGITS: Kind("an observation in, a logit for each window out", FEATURES, ("tanh", "relu"), _check_logits),
    PRICED: Kind(
        "an observation and what each window is expected to cost in, a logit for each window out",
        ASKED,
        ("tanh", "relu"),
        _check_logits,
    ),
    STACKED: Kind(
        "the same and the request's last rounds in, a logit for each window out",
        ASKED | PAST_INPUTS,
        ("tanh", "relu"),
        _check_logits,
    ),
    REGRESSOR: Kind("DSD's five inputs in, a window out", WINDOW_INPUTS, ("silu",), _check_regressor),
    TREE: Kind("questions about an observation and costs by it, a window for each leaf", ASKED, ("none",), _check_tree),
}
