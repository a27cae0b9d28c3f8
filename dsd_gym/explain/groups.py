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
"""The flag that says whether a feature is there: where it stays, only features that are there are replaced."""

TOGETHER = {
    "round trip": ("last_rtt_ms", "smoothed_rtt_ms", "rtt_deviation_ms"),
    "acceptance so far": ("acceptance_estimate", "last_window", "last_accepted", "all_accepted", "has_last_round"),
    "confidence": ("first_guess_confidence", "last_mean_confidence"),
    "mode and catch-up": (
        *("cloud_mode", "catch_up_ms", "has_first_guess", "first_guess_confidence"),
        *("has_last_confidence", "last_mean_confidence"),  # only who drafts has them
    ),
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
    """Return {feature: itself}; flags do not stand alone."""
    flags = set(MASKED_BY.values())
    return {name: (name,) for name in names if name not in flags}


def flags_kept(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flags of features that are replaced without them."""
    return tuple(sorted({MASKED_BY[name] for name in names if name in MASKED_BY} - set(names)))
