"""Goodput argmax: the window with the most accepted tokens a ms, as if the whole batch used it."""

from __future__ import annotations

from agents.base import Controller
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

    def __init__(self, max_window: int, link_weight: float = 1.0, cloud_margin: float = 0.2) -> None:
        self._max_window, self._link_weight, self._cloud_margin = max_window, link_weight, cloud_margin

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window of most goodput."""
        best = max(range(1, self._max_window + 1), key=lambda k: self.goodput(observation, k))
        cloud = self.goodput(observation, 0)
        return Decision(0 if cloud * (1.0 - self._cloud_margin) > self.goodput(observation, best) else best)

    def goodput(self, observation: Observation, window: int) -> float:
        """Return the expected tokens a ms of the batch if each of its requests used `window`."""
        o = observation
        batch = max(o.batch_size, 1)
        tokens = batch * (window + 1)
        pass_ms = max(
            o.iteration_ms + o.marginal_ms_per_token * (tokens - o.iteration_tokens), o.one_token_iteration_ms
        )
        edge_ms = window * o.draft_ms_per_token
        if window:
            edge_ms += self._link_weight * (o.smoothed_rtt_ms + window * o.uplink_ms_per_token)
        return batch * expected_tokens(o.acceptance_estimate, window) / max(edge_ms + pass_ms, SHORTEST_MS)
