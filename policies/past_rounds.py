"""What stacked policies see beside: the last rounds of the request one by one, the latest first.

An observation sums up its request's earlier rounds in one running share. Kept as they were, they may tell more: how
sure the draft is where it is accepted, whether rejections come together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURE_NAMES, FEATURES, SCALE, Observation

ROUNDS = 8
_TOLD = {"window": "last_window", "accepted": "last_accepted", "confidence": "last_mean_confidence"}
PAST_INPUTS = {
    f"{short}_{back}": FEATURES[name]._replace(meaning=f"{name.removeprefix('last_')} of the edge round {back} back")
    for back in range(1, ROUNDS + 1)
    for short, name in _TOLD.items()
}
"""In the order of a memory's columns; 0 where there was no such round yet."""

_EACH = len(_TOLD)
_COLUMNS = [FEATURE_NAMES.index(name) for name in _TOLD.values()]
_FRESH = FEATURE_NAMES.index("has_last_confidence")
_WINDOW_SCALE, _ACCEPTED_SCALE, _CONFIDENCE_SCALE = SCALE[_COLUMNS].tolist()
NO_ROUNDS = (0.0,) * len(PAST_INPUTS)


def after(past: tuple[float, ...], observation: Observation) -> tuple[float, ...]:
    """Return the memory of a request, scaled, once it has come to `observation`.

    Each decision is met once. A round is new where its confidence is known: cloud decoding, which adds none, hides it.
    """
    if not observation.has_last_confidence:
        return past
    return (
        observation.last_window * _WINDOW_SCALE,
        observation.last_accepted * _ACCEPTED_SCALE,
        observation.last_mean_confidence * _CONFIDENCE_SCALE,
        *past[:-_EACH],
    )


def after_many(past: NDArray[np.float32], observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Do the same for rows: memories (n, len(PAST_INPUTS)), scaled observations (n, at least len(FEATURES))."""
    fresh = observations[:, _FRESH] > 0.0
    result = past.copy()
    result[fresh, _EACH:] = past[fresh, :-_EACH]
    result[fresh, :_EACH] = observations[fresh][:, _COLUMNS]
    return result
