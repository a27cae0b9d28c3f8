"""What controllers are shown: `observation.scaled` of many questions, with equal bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURES, FIRST_LOG, HIGH, LOG_SCALE, SCALE
from dsd_gym.vector.compiled import bounded, compiled
from dsd_gym.vector.layout import FloatArray

_COLUMNS = len(FEATURES)


def shown(seen: FloatArray) -> NDArray[np.float32]:
    """Return features in their own units, shape (count, features), scaled to [0, 1] in a fresh array."""
    result, logs = np.empty(seen.shape, np.float32), np.empty((len(seen), _COLUMNS - FIRST_LOG))
    bound(seen, result, logs)
    np.log(logs, out=logs)  # numpy has this one for whole vectors
    finish(logs, result)
    return result


@compiled
def bound(seen: FloatArray, result: NDArray[np.float32], logs: FloatArray) -> None:
    """Write what is linear, and what the logarithms are to be taken of."""
    for row in range(len(seen)):
        for column in range(FIRST_LOG):
            result[row, column] = bounded(seen[row, column], HIGH[column], SCALE[column])
        for column in range(FIRST_LOG, _COLUMNS):
            logs[row, column - FIRST_LOG] = bounded(seen[row, column], HIGH[column], SCALE[column]) + 1.0


@compiled
def finish(logs: FloatArray, result: NDArray[np.float32]) -> None:
    """Write what comes of the logarithms."""
    for row in range(len(logs)):
        for column in range(_COLUMNS - FIRST_LOG):
            result[row, FIRST_LOG + column] = logs[row, column] * LOG_SCALE[column]
