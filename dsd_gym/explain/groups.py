"""Which features are replaced together, when it is asked what a policy heeds."""

from __future__ import annotations

from dsd_gym.observation import FEATURE_NAMES

MASKED_BY = {
    "last_window": "has_last_round",
    "last_accepted": "has_last_round",
    "all_accepted": "has_last_round",
    "first_guess_confidence": "has_first_guess",
    "last_mean_confidence": "has_last_confidence",
}
"""The flag that says whether a feature is there: one without the other would be nonsense."""

TOGETHER = {
    "round trip": ("last_rtt_ms", "smoothed_rtt_ms", "rtt_deviation_ms"),
    "acceptance so far": ("acceptance_estimate", "last_window", "last_accepted", "all_accepted", "has_last_round"),
    "confidence": ("first_guess_confidence", "has_first_guess", "last_mean_confidence", "has_last_confidence"),
    "mode and catch-up": ("cloud_mode", "has_first_guess", "first_guess_confidence", "catch_up_ms"),
    "load of the target": (
        *("queue_wait_ms", "iteration_ms", "batch_size", "iteration_tokens", "marginal_ms_per_token"),
    ),
    "progress": ("context_tokens", "committed_tokens"),
}
"""Features that say the same of something; one alone may be made up for by the others."""


def groups(names: tuple[str, ...] = FEATURE_NAMES) -> dict[str, tuple[str, ...]]:
    """Return {group: features} of those among `names`; groups of one are left out."""
    found = {group: tuple(name for name in members if name in names) for group, members in TOGETHER.items()}
    return {group: members for group, members in found.items() if len(members) > 1}


def singles(names: tuple[str, ...] = FEATURE_NAMES) -> dict[str, tuple[str, ...]]:
    """Return {feature: it and its flag}; flags do not stand alone."""
    flags = set(MASKED_BY.values())
    return {
        name: (name, MASKED_BY[name]) if MASKED_BY.get(name) in names else (name,)
        for name in names
        if name not in flags
    }
