"""A run along its own clock: windows, link and load in bins of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym.records import Records
from dsd_gym.rounds import RoundArray, as_array

BIN_MS = 1000.0

Series = dict[str, tuple[float | None, ...]]


def binned(records: Records) -> Series:
    """Return, for each second until the measured interval closes, what the rounds that ended in it were like.

    `window`: mean of edge rounds. `cloud_share`: of the tokens committed. `rtt_ms`, `batch_size`: means of
    rounds. `live_requests`: arrived and not yet gone, at the bin's end. None where no round tells.
    """
    bins = max(int(np.ceil(records.end_ms / BIN_MS)), 1)
    rounds = as_array(records.rounds)
    rounds = rounds[rounds["end_ms"] < bins * BIN_MS]
    edge = rounds[rounds["window"] > 0]

    def total(of: RoundArray, name: str | None = None) -> NDArray[Any]:
        at = (of["end_ms"] / BIN_MS).astype(np.int64)
        return np.bincount(at, None if name is None else of[name].astype(np.float64), bins)

    return {
        "window": _quotient(total(edge, "window"), total(edge)),
        "cloud_share": _quotient(total(rounds, "cloud_tokens"), total(rounds, "committed")),
        "rtt_ms": _quotient(total(rounds, "rtt_ms"), total(rounds)),
        "batch_size": _quotient(total(rounds, "batch_size"), total(rounds)),
        "live_requests": _live(records, bins),
    }


def _live(records: Records, bins: int) -> tuple[float, ...]:
    """Return the requests in the system at each bin's end; a rejected one never was in it."""
    ends = BIN_MS * np.arange(1, bins + 1)
    arrived = np.sort([r.arrival_ms for r in records.requests if r.status != "rejected"])
    left = np.sort([r.finish_ms for r in records.requests if r.finish_ms is not None])
    counts = np.searchsorted(arrived, ends) - np.searchsorted(left, ends)
    return tuple(float(count) for count in counts)


def _quotient(sums: NDArray[Any], weights: NDArray[Any]) -> tuple[float | None, ...]:
    """Return sums / weights to four digits, None where nothing weighs."""
    return tuple(float(f"{s / w:.4g}") if w else None for s, w in zip(sums, weights, strict=True))
