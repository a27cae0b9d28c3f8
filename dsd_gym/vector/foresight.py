"""What no edge could know of a moment, for a critic alone: luck that no decision changes, and the system's true state.

A baseline may depend on all that the decision at hand does not change, and the policy's gradient stays unbiased; what
it explains is noise less (input-dependent baselines: Mao et al. 2019, arXiv 1807.02264).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dsd_gym.vector.compiled import at, compiled
from dsd_gym.vector.layout import Cell
from dsd_gym.vector.way import way

FORESIGHT = ("run_ahead", "accepted_near", "accepted_far", "tokens_left", "live_requests", "pass_left_ms", "way_ms")
"""Columns, each scaled to [0, 1]."""

MOST_RUN, _NEAR, _FAR, _LEFT = 16, 8, 32, 256
_LIVE, _MS = math.log1p(256.0), math.log1p(4000.0)


@compiled
def foresee(cell: Cell, number: int, ahead: NDArray[np.float32]) -> None:
    """Write what lies ahead of a request that asks, in the order of `FORESIGHT`."""
    state, request = cell.state, cell.requests[at(number)]
    first, left = request.tape + request.committed, request.output_tokens - request.committed
    run, near, far, unbroken = 0, 0, 0, True
    for place in range(min(left, _FAR)):
        accepted = cell.accepted[at(first + place)]
        unbroken = unbroken and accepted
        run += unbroken
        far += accepted
        if place < _NEAR:
            near += accepted
    ahead[0], ahead[1], ahead[2] = min(run, MOST_RUN) / MOST_RUN, near / _NEAR, far / _FAR
    ahead[3] = min(left, _LEFT) / _LEFT
    target = cell.targets[at(request.target)]
    pass_left_ms = 0.0 if target.idle else max(0.0, target.start_ms + target.total_ms - state.now_ms)
    way_ms, _ = way(cell, request.device, state.now_ms, 0.0, True)
    ahead[4] = min(1.0, math.log1p(target.live) / _LIVE)
    ahead[5], ahead[6] = min(1.0, math.log1p(pass_left_ms) / _MS), min(1.0, math.log1p(way_ms) / _MS)
