"""What a window regressor sees: the five inputs of DSD's supervised predictor (2511.21669), and their scales."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import MAX_WINDOW, Feature, scale_feature


class WindowInputs(NamedTuple):
    """One moment of one draft-target pair."""

    queue_utilisation: float
    acceptance_rate: float
    rtt_ms: float
    tpot_ms: float
    previous_window: float


WINDOW_INPUTS: dict[str, Feature] = {
    "queue_utilisation": Feature("1", 1.0, None, "1 - idle pass / recent (queue wait + pass) at the target"),
    "acceptance_rate": Feature("1", 1.0, None, "recent accepted / tested drafts"),
    "rtt_ms": Feature("ms", 4000.0, 1.0, "smoothed round trip"),
    "tpot_ms": Feature("ms", 4000.0, 1.0, "recent ms a token at the edge; 0 before the first round"),
    "previous_window": Feature("tokens", MAX_WINDOW, None, "window last used at the edge; 0 before the first"),
}
assert tuple(WINDOW_INPUTS) == WindowInputs._fields

_SCALES = tuple((feature.high, feature.knee or 0.0) for feature in WINDOW_INPUTS.values())


def scale_inputs(inputs: WindowInputs) -> NDArray[np.float32]:
    """Return the inputs clipped and scaled to [0, 1], shape (5,), float32."""
    scaled = [scale_feature(value, *scale) for value, scale in zip(inputs, _SCALES, strict=True)]
    return np.array(scaled, np.float32)
