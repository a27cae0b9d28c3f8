"""What a controller sees at a decision: only what an edge can measure or is told by the target.

`dsd_gym.stream_view` makes observations, in the simulator and in the runtime; scaling happens here alone
(`dsd_gym.vector.shown` compiles it).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MAX_WINDOW = 16
"""The longest window that an observation can report and a policy may be trained for."""


class Observation(NamedTuple):
    """One moment of one request at its edge. A feature with a `has_` flag is 0 while the flag is False.

    Linear features first, logarithmic ones after them, so that scaling is two slices.
    """

    acceptance_estimate: float
    last_window: int
    last_accepted: int
    all_accepted: bool
    has_last_round: bool
    first_guess_confidence: float
    has_first_guess: bool
    last_mean_confidence: float
    has_last_confidence: bool
    cloud_mode: bool
    draft_ms_per_token: float
    last_rtt_ms: float
    smoothed_rtt_ms: float
    rtt_deviation_ms: float
    uplink_ms_per_token: float
    queue_wait_ms: float
    iteration_ms: float
    batch_size: int
    iteration_tokens: int
    marginal_ms_per_token: float
    one_token_iteration_ms: float
    report_age_ms: float
    catch_up_ms: float
    context_tokens: int
    committed_tokens: int


class Feature(NamedTuple):
    """Unit, upper bound (values are clipped to [0, high]) and scale: linear, or log(1 + x / knee)."""

    unit: str
    high: float
    knee: float | None
    meaning: str


FEATURES: dict[str, Feature] = {
    "acceptance_estimate": Feature("1", 1.0, None, "recent accepted / tested drafts, weighted with a prior"),
    "last_window": Feature("tokens", MAX_WINDOW, None, "window of the last edge round"),
    "last_accepted": Feature("tokens", MAX_WINDOW, None, "drafts accepted in that round"),
    "all_accepted": Feature("flag", 1.0, None, "whether all of them were"),
    "has_last_round": Feature("flag", 1.0, None, "whether there was an edge round yet"),
    "first_guess_confidence": Feature("1", 1.0, None, "draft probability of its first guess"),
    "has_first_guess": Feature("flag", 1.0, None, "whether the draft has caught up and guessed"),
    "last_mean_confidence": Feature("1", 1.0, None, "mean draft probability over the last window"),
    "has_last_confidence": Feature("flag", 1.0, None, "whether there is one"),
    "cloud_mode": Feature("flag", 1.0, None, "whether the target is decoding on its own"),
    "draft_ms_per_token": Feature("ms", 200.0, 1.0, "ms a draft token takes at this edge"),
    "last_rtt_ms": Feature("ms", 4000.0, 1.0, "last round trip, time at the target and transmission taken off"),
    "smoothed_rtt_ms": Feature("ms", 4000.0, 1.0, "smoothed RTT (RFC 6298)"),
    "rtt_deviation_ms": Feature("ms", 2000.0, 1.0, "RTT variation (RFC 6298)"),
    "uplink_ms_per_token": Feature("ms", 200.0, 0.01, "transmission ms that a drafted token adds"),
    "queue_wait_ms": Feature("ms", 60_000.0, 1.0, "wait before the last iteration, reported by the target"),
    "iteration_ms": Feature("ms", 2000.0, 1.0, "length of that iteration"),
    "batch_size": Feature("requests", 1024.0, 1.0, "requests in it"),
    "iteration_tokens": Feature("tokens", 16_384.0, 1.0, "tokens in it"),
    "marginal_ms_per_token": Feature("ms", 2.0, 0.01, "ms that one more token would have added to it"),
    "one_token_iteration_ms": Feature("ms", 500.0, 1.0, "ms of a pass with one token: the target's floor"),
    "report_age_ms": Feature("ms", 60_000.0, 1.0, "since the last report was received"),
    "catch_up_ms": Feature("ms", 60_000.0, 1.0, "until the draft could begin: what it has missed, other work before"),
    "context_tokens": Feature("tokens", 131_072.0, 64.0, "prompt and committed tokens"),
    "committed_tokens": Feature("tokens", 8192.0, 8.0, "output tokens committed so far"),
}
FEATURE_NAMES = Observation._fields
assert tuple(FEATURES) == FEATURE_NAMES

FIRST_LOG = next(i for i, feature in enumerate(FEATURES.values()) if feature.knee is not None)
"""The column of the first logarithmic feature."""
HIGH = np.array([feature.high for feature in FEATURES.values()])
_KNEE_SCALE = np.array([1.0 / feature.knee for feature in FEATURES.values() if feature.knee])
SCALE = np.concatenate([1.0 / HIGH[:FIRST_LOG], _KNEE_SCALE])
ADDED = (np.arange(len(HIGH)) >= FIRST_LOG).astype(np.float64)
LOG_SCALE = ((1.0 - 4e-7) / np.log1p(HIGH[FIRST_LOG:] * _KNEE_SCALE)).astype(np.float32)
"""Logarithmic features are `log(1 + SCALE x) LOG_SCALE`, linear ones `SCALE x`, x being clipped to [0, HIGH].

`ADDED` is 1 for the former. Logarithms are of float32, several times as fast as of float64, their scale so little
smaller that rounding leaves none above 1.
"""


def scale_feature(value: float, high: float, knee: float) -> float:
    """Return `value` clipped to [0, high] and scaled to [0, 1]; `knee` 0 means linear. `to_array` for a scalar."""
    clipped = min(max(value, 0.0), high)
    if knee == 0.0:
        return clipped / high
    return math.log1p(clipped / knee) / math.log1p(high / knee)


def unscaled_feature(scaled: float, high: float, knee: float) -> float:
    """Return what `scale_feature` made `scaled` of, in its own unit."""
    if knee == 0.0:
        return scaled * high
    return math.expm1(scaled * math.log1p(high / knee)) * knee


def to_array(observation: Observation) -> NDArray[np.float32]:
    """Return the observation scaled to [0, 1], shape (len(FEATURES),), float32."""
    return scaled(np.array(observation, dtype=np.float64))


def scaled(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return features in their own units, shape (..., len(FEATURES)), scaled to [0, 1]."""
    high, scale, log_scale = _scales(values.shape)
    values = bounded(values, high, scale)
    result = (values + ADDED).astype(np.float32)
    logs = result[..., FIRST_LOG:]
    np.log(logs, out=logs)  # numpy has this one for whole vectors; log1p would tell apart what float32 does not
    logs *= log_scale
    return result


def bounded(value: Any, high: Any, scale: Any) -> Any:
    """Return what is clipped to [0, high] and scaled: arrays under numpy, numbers under numba, bits equal."""
    return np.maximum(np.minimum(value, high), 0.0) * scale


@lru_cache(maxsize=16)
def _scales(shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray, NDArray[np.float32]]:
    """Return bounds, scales and logarithms' scales in full: numpy takes longer to repeat a short row."""
    rows = shape[:-1]
    high, scale, log_scale = (np.tile(row, (*rows, 1)) for row in (HIGH, SCALE, LOG_SCALE))
    return high.reshape(shape), scale.reshape(shape), log_scale.reshape(*rows, -1)


def to_raw(scaled: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return features in their own units from scaled ones, shape (..., len(FEATURES)): the inverse of `to_array`."""
    raw = scaled.astype(np.float64)
    raw[..., :FIRST_LOG] /= SCALE[:FIRST_LOG]
    raw[..., FIRST_LOG:] = np.expm1(raw[..., FIRST_LOG:] / LOG_SCALE) / _KNEE_SCALE
    return raw


class Report(NamedTuple):
    """What a target says of its own load with every message it sends."""

    queue_wait_ms: float
    iteration_ms: float
    batch_size: int
    iteration_tokens: int
    marginal_ms_per_token: float
    one_token_iteration_ms: float
