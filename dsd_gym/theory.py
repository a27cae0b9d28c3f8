"""Closed forms of one undisturbed request: what rules compute with, what a reward is measured by, what tests check."""

from __future__ import annotations

import math

from dsd_gym.acceptance import expected_tokens


def zero_load_tpot_ms(
    acceptance_probability: float, window: int, draft_ms: float, rtt_ms: float, verify_ms: float
) -> float:
    """Return ms a token of synchronous rounds: (k t_d + RTT + t_v) / expected tokens (Leviathan et al., 2211.17192).

    Window 0 is a pass a token without the network, which cloud decoding streams past.
    """
    if window == 0:
        return verify_ms
    return (window * draft_ms + rtt_ms + verify_ms) / expected_tokens(acceptance_probability, window)


def break_even_rtt_ms(acceptance_probability: float, window: int, draft_ms: float, cloud_ms: float) -> float:
    """Return the RTT below which a window beats cloud decoding when t_v = t_cloud (2606.25091): t_c (E - 1) - k t_d."""
    return cloud_ms * (expected_tokens(acceptance_probability, window) - 1.0) - window * draft_ms


def log_normal_tail(mean: float, median: float, value: float) -> float:
    """Return the probability that a log-normal number of this mean and median exceeds `value`; equal: a constant."""
    sigma = math.sqrt(2.0 * math.log(mean / median))
    if sigma == 0.0:
        return float(median > value)
    return 0.5 * math.erfc(math.log(value / median) / (sigma * math.sqrt(2.0)))
