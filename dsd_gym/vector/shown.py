"""What controllers are shown: `observation.scaled` of many questions, with equal bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import ADDED, FEATURES, FIRST_LOG, HIGH, LOG_SCALE, SCALE
from dsd_gym.vector.compiled import bounded, compiled
from dsd_gym.vector.layout import FloatArray

_COLUMNS = len(FEATURES)
_ONE = np.float32(1.0)


def shown(seen: FloatArray) -> NDArray[np.float32]:
    """Return features in their own units, shape (count, features), scaled to [0, 1] in a fresh array."""
    result, logs = np.empty(seen.shape, np.float32), np.empty((len(seen), _COLUMNS - FIRST_LOG + 1), np.float32)
    bound(seen, result, logs)
    np.log(logs, out=logs)  # numpy has this one for whole vectors
    finish(logs, result)
    return result


@compiled
def bound(seen: FloatArray, result: NDArray[np.float32], logs: NDArray[np.float32]) -> None:
    """Write what is linear, and what the logarithms are to be taken of: one column more, for whole vectors."""
    for row in range(len(seen)):
        for column in range(_COLUMNS):
            result[row, column] = bounded(seen[row, column], HIGH[column], SCALE[column]) + ADDED[column]
        for column in range(FIRST_LOG - 1, _COLUMNS):
            logs[row, column - FIRST_LOG + 1] = max(_ONE, result[row, column])


@compiled
def finish(logs: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    """Write what comes of the logarithms."""
    for row in range(len(logs)):
        for column in range(_COLUMNS - FIRST_LOG):
            result[row, FIRST_LOG + column] = logs[row, column + 1] * LOG_SCALE[column]
