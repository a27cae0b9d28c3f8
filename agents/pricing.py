"""What a window is expected to cost, computed from an observation alone: shared by the analytic rules."""

from __future__ import annotations

from dsd_gym.acceptance import expected_tokens
from dsd_gym.observation import Observation


def round_ms_per_token(observation: Observation, window: int, price: float, acceptance: float) -> float:
    """Return the expected ms a committed token of an edge round, others' delay charged at `price`.

    (k t_d + k t_up + RTT + wait + t_v + price x externality) / expected tokens. The first guess is drafted already;
    wait and t_v are those the target last reported; each token adds `marginal_ms_per_token` to the pass, which every
    other request of the batch sits through.
    """
    o = observation
    to_draft = window - 1 if o.has_first_guess else window
    tokens = window + 1
    own_ms = (
        o.catch_up_ms
        + to_draft * o.draft_ms_per_token
        + window * o.uplink_ms_per_token
        + o.smoothed_rtt_ms
        + o.queue_wait_ms
        + max(o.iteration_ms, o.one_token_iteration_ms)
    )
    others_ms = tokens * o.marginal_ms_per_token * max(o.batch_size - 1, 0)
    # the next round's first guess is part of this one's length: it is paid whatever is decided then
    return (own_ms + o.draft_ms_per_token + price * others_ms) / expected_tokens(acceptance, window)


def cloud_ms_per_token(observation: Observation, price: float) -> float:
    """Return the expected ms a token of cloud decoding: one pass each, and one token's delay for every other."""
    o = observation
    iteration_ms = max(o.iteration_ms, o.one_token_iteration_ms)
    return iteration_ms + price * o.marginal_ms_per_token * max(o.batch_size - 1, 0)


def best_window(observation: Observation, max_window: int, price: float, acceptance: float, cloud_margin: float) -> int:
    """Return the window of least expected cost; cloud decoding must win by `cloud_margin` (a fraction)."""
    costs = [round_ms_per_token(observation, k, price, acceptance) for k in range(1, max_window + 1)]
    window = min(range(max_window), key=costs.__getitem__) + 1
    return 0 if cloud_ms_per_token(observation, price) < costs[window - 1] * (1.0 - cloud_margin) else window
