"""Which decision follows which, compiled: loops over rounds and decisions that Python would take longest for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.vector.compiled import compiled_arrays
from dsd_gym.vector.layout import Records

Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]

TERMINAL, PENDING, DROPPED = -1, -2, -3
"""What follows a decision that no decision follows: the stream's end, one still to be made, the deployment's end."""


@compiled_arrays
def enter_rounds(
    rounds: Records,
    slot_of: Ints,
    cost: Numbers,
    tokens: Numbers,
    average: Numbers,
    total_cost: Numbers,
    total_tokens: Numbers,
    reference_ms: Numbers,
    externality_weight: float,
    crowd: float,
    team: bool,
) -> None:
    """Enter what each round cost and brought at the slot of its decision, and the deployment's average so far.

    `slot_of` (deployments, streams) holds each stream's last decision. `team` charges what all live requests waited.
    """
    for entry in rounds:
        slot = slot_of[entry.deployment, entry.stream]
        if slot < 0:  # admission left the request to the cloud: nobody decided
            continue
        price = externality_weight * (1.0 + entry.batch_size / crowd)
        spent_ms = entry.end_ms - entry.start_ms + price * entry.externality_ms
        if team:
            spent_ms = entry.team_ms
        cost[slot] = spent_ms / reference_ms[entry.deployment]
        tokens[slot] = entry.committed
        total_cost[entry.deployment] += cost[slot]
        total_tokens[entry.deployment] += entry.committed
        average[slot] = total_cost[entry.deployment] / total_tokens[entry.deployment]


@compiled_arrays
def end_streams(ended: Records, slot_of: Ints, follows: Ints) -> None:
    """Let no decision follow the last ones of streams that ended."""
    for entry in ended:
        slot = slot_of[entry.deployment, entry.stream]
        if slot >= 0:  # a request of one token, or rejected, never asked
            follows[slot] = TERMINAL
            slot_of[entry.deployment, entry.stream] = PENDING


@compiled_arrays
def advantages(
    follows: Ints, spans: Numbers, rewards: Numbers, values: Numbers, discount: float, trace_decay: float
) -> Numbers:
    """Return generalised advantage estimates, last to first, each from the decision that follows.

    A decision's `spans` are the units of discount and trace decay until the next: tokens, or 1 for each decision.
    """
    result = np.zeros(len(follows))
    for slot in range(len(follows) - 1, -1, -1):
        after = follows[slot]
        if after == TERMINAL:
            result[slot] = rewards[slot] - values[slot]
        elif after >= 0:
            kept = discount ** spans[slot]
            trace = kept * trace_decay ** spans[slot]
            result[slot] = rewards[slot] + kept * values[after] - values[slot] + trace * result[after]
    return result
