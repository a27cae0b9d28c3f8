"""What a window is expected to cost, by an observation alone: what analytic rules decide by and priced policies see.

Plain arithmetic and loops, so that numba can compile it too (`dsd_gym.vector.rules`).
"""

from __future__ import annotations

import math

from dsd_gym.acceptance import expected_tokens
from dsd_gym.observation import Observation

CONFIDENCE_WEIGHT = 0.2
"""Weight, in log-odds, of the first guess's confidence against the acceptance estimate; chosen by `agents.tune`."""
SPREAD = 0.15
"""Deviation of the target's iterations, as a fraction of one: no two batches are alike. Tried by hand, flat."""
MOMENTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Deviations at which the arrival of a window is tried."""


def round_ms_per_token(
    observation: Observation, window: int, price: float, confidence_weight: float = CONFIDENCE_WEIGHT
) -> float:
    """Return the expected ms a committed token of an edge round, others' delay charged at `price`.

    (k t_d + k t_up + RTT + wait + t_v + price x externality) / expected tokens. The first guess is drafted already;
    t_v is the iteration last reported; each token adds `marginal_ms_per_token` to the pass, which every other request
    of the batch sits through.
    """
    others_ms = price * (window + 1) * others_ms_per_token(observation)
    return (round_own_ms(observation, window) + others_ms) / round_tokens(observation, window, confidence_weight)


def round_own_ms(observation: Observation, window: int) -> float:
    """Return the expected ms of an edge round, up to the guess that the next one begins with."""
    o = observation
    to_draft = window - 1 if o.has_first_guess else window
    away_ms = to_draft * o.draft_ms_per_token + window * o.uplink_ms_per_token + o.smoothed_rtt_ms
    own_ms = o.catch_up_ms + away_ms + wait_ms(o, away_ms) + iteration_ms(o)
    # the next round's first guess is part of this one's length: it is paid whatever is decided then
    return own_ms + o.draft_ms_per_token


def cloud_ms_per_token(observation: Observation, price: float) -> float:
    """Return the expected ms a token of cloud decoding: one pass each, and one token's delay for every other."""
    return iteration_ms(observation) + price * others_ms_per_token(observation)


def best_window(
    observation: Observation,
    max_window: int,
    price: float,
    cloud_margin: float,
    confidence_weight: float = CONFIDENCE_WEIGHT,
) -> int:
    """Return the window of least expected cost; cloud decoding must win by `cloud_margin` (a fraction)."""
    window, least_ms = 1, round_ms_per_token(observation, 1, price, confidence_weight)
    for longer in range(2, max_window + 1):
        cost_ms = round_ms_per_token(observation, longer, price, confidence_weight)
        if cost_ms < least_ms:
            window, least_ms = longer, cost_ms
    return 0 if cloud_ms_per_token(observation, price) < least_ms * (1.0 - cloud_margin) else window


def iteration_ms(observation: Observation) -> float:
    """Return the length of the target's next iteration: the one last reported, and never less than its floor."""
    return max(observation.iteration_ms, observation.one_token_iteration_ms)


def others_ms_per_token(observation: Observation) -> float:
    """Return the delay that one token puts on the rest of the batch."""
    return observation.marginal_ms_per_token * max(observation.batch_size - 1, 0)


def wait_ms(observation: Observation, away_ms: float) -> float:
    """Return the expected wait of a window that reaches the target `away_ms` after an iteration ended.

    A busy target runs iterations back to back, so the window waits for the end of the one it finds running. An
    iteration that this request shared with nobody was followed by none: the share of others stands for how likely
    the target is busy. Jitter and unequal iterations blur the moment of arrival.
    """
    length_ms = iteration_ms(observation)
    if observation.batch_size <= 1 or length_ms <= 0.0:
        return 0.0
    blur_ms = observation.rtt_deviation_ms + SPREAD * length_ms
    left_ms = 0.0
    for moment in MOMENTS:
        left_ms += -(away_ms + moment * blur_ms) % length_ms
    return left_ms / len(MOMENTS) * (1.0 - 1.0 / observation.batch_size)


def round_tokens(observation: Observation, window: int, confidence_weight: float = CONFIDENCE_WEIGHT) -> float:
    """Return the expected tokens of a window: the first guess by its own chance, the others by the estimate."""
    acceptance = observation.acceptance_estimate
    first = first_guess_acceptance(observation, confidence_weight)
    return 1.0 + first * expected_tokens(acceptance, window - 1)


def first_guess_acceptance(observation: Observation, confidence_weight: float = CONFIDENCE_WEIGHT) -> float:
    """Return the chance of the first guess: the estimate and the draft's confidence, mixed in log-odds."""
    estimate = observation.acceptance_estimate
    if not observation.has_first_guess or confidence_weight == 0.0:
        return estimate
    confidence = _log_odds(observation.first_guess_confidence)
    return 1.0 / (1.0 + math.exp(-(_log_odds(estimate) + confidence_weight * (confidence - _log_odds(estimate)))))


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, 0.001), 0.999)
    return math.log(clipped / (1.0 - clipped))
