"""Observations and rounds to ask controllers about."""

from __future__ import annotations

from typing import Any

from dsd_gym.observation import Observation
from dsd_gym.records import Round

QUIET = Observation(
    acceptance_estimate=0.7,
    last_window=4,
    last_accepted=4,
    all_accepted=True,
    has_last_round=True,
    first_guess_confidence=0.7,
    has_first_guess=True,
    last_mean_confidence=0.7,
    has_last_confidence=True,
    cloud_mode=False,
    draft_ms_per_token=8.0,
    last_rtt_ms=20.0,
    smoothed_rtt_ms=20.0,
    rtt_deviation_ms=2.0,
    uplink_ms_per_token=0.0,
    queue_wait_ms=0.0,
    iteration_ms=30.0,
    batch_size=1,
    iteration_tokens=5,
    marginal_ms_per_token=0.05,
    one_token_iteration_ms=30.0,
    report_age_ms=10.0,
    catch_up_ms=0.0,
    context_tokens=200,
    committed_tokens=30,
)


def observed(**changes: Any) -> Observation:
    """Return a quiet moment with some features changed."""
    return QUIET._replace(**changes)


def a_round(**changes: Any) -> Round:
    """Return a round of four drafts, all accepted, alone at the target, with some fields changed."""
    quiet = Round(0, 0.0, 8.0, 80.0, 4, 4, 4, 0, 5, 20.0, 0.0, 30.0, 1, 0.0, 100.0, 100.0)
    return quiet._replace(**changes)
