"""Goodput argmax: the window with the most accepted tokens a ms, as if the whole batch used it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from agents.rows import windows_of
from dsd_gym.acceptance import expected_tokens
from dsd_gym.observation import Observation
from dsd_gym.records import Decision

SHORTEST_MS = 1e-3
"""No round takes less; keeps the quotient finite before the target has first reported."""


class TurboSpec(Controller):
    """Argmax over windows k of (expected accepted + 1) x batch / iteration time(k, batch): TurboSpec (2406.14066).

    The iteration time is k draft steps and a pass in which each of the batch brings k + 1 tokens: the pass last
    reported, moved along its reported cost of one more token, and never below its floor. Window 0, one token a
    pass, is cloud decoding.
    TurboSpec's draft sits beside the target, so its round has no link. `link_weight` is the share of the round trip
    and of the uplink that counts as part of the round, `cloud_margin` how much more goodput window 0 must promise,
    as a fraction. Both are chosen by `python -m agents.tune turbospec`; in `turbospec:published` both are 0.
    """

    def __init__(self, max_window: int, link_weight: float = 1.0, cloud_margin: float = 0.1) -> None:
        self._constants = max_window, link_weight, cloud_margin

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window of most goodput."""
        return Decision(window_of_most_goodput(observation, *self._constants))

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        """Return the windows for rows of features in their own units."""
        return windows_of(window_of_most_goodput, seen, *self._constants), None


def window_of_most_goodput(
    observation: Observation, max_window: int, link_weight: float, cloud_margin: float
) -> int:
    """Return the window with the most goodput, the shortest of equals; window 0 must win by `cloud_margin`."""
    window, most = 1, goodput(observation, 1, link_weight)
    for longer in range(2, max_window + 1):
        tokens_per_ms = goodput(observation, longer, link_weight)
        if tokens_per_ms > most:
            window, most = longer, tokens_per_ms
    return 0 if goodput(observation, 0, link_weight) * (1.0 - cloud_margin) > most else window


def goodput(observation: Observation, window: int, link_weight: float) -> float:
    """Return the expected tokens a ms of the batch if each of its requests used `window`."""
    o = observation
    batch = max(o.batch_size, 1)
    tokens = batch * (window + 1)
    pass_ms = max(
        o.iteration_ms + o.marginal_ms_per_token * (tokens - o.iteration_tokens), o.one_token_iteration_ms
    )
    edge_ms = window * o.draft_ms_per_token
    if window:
        edge_ms += link_weight * (o.smoothed_rtt_ms + window * o.uplink_ms_per_token)
    return batch * expected_tokens(o.acceptance_estimate, window) / max(edge_ms + pass_ms, SHORTEST_MS)
