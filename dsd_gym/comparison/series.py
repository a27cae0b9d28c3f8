"""A run along its own clock: windows, link and load in bins of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym.records import Records

BIN_MS = 1000.0

Series = dict[str, tuple[float | None, ...]]


def binned(records: Records) -> Series:
    """Return, for each second until the measured interval closes, what the rounds that ended in it were like.

    `window`: mean of edge rounds. `cloud_share`: of the tokens committed. `rtt_ms`, `batch_size`: means of
    rounds. `live_requests`: arrived and not yet gone, at the bin's end. None where no round tells.
    """
    bins = max(int(np.ceil(records.end_ms / BIN_MS)), 1)
    rounds = [round for round in records.rounds if round.end_ms < bins * BIN_MS]
    at = np.array([round.end_ms / BIN_MS for round in rounds], dtype=np.int64)
    edge = np.array([round.window > 0 for round in rounds], dtype=bool)
    committed = np.array([round.committed for round in rounds], dtype=np.float64)
    cloud = np.array([round.cloud_tokens for round in rounds], dtype=np.float64)

    def mean(values: list[float], of: NDArray[np.bool_] | None = None) -> tuple[float | None, ...]:
        kept = np.ones(len(rounds), dtype=bool) if of is None else of
        sums = np.bincount(at[kept], np.asarray(values, dtype=np.float64)[kept], bins)
        return _quotient(sums, np.bincount(at[kept], minlength=bins))

    return {
        "window": mean([round.window for round in rounds], edge),
        "cloud_share": _quotient(np.bincount(at, cloud, bins), np.bincount(at, committed, bins)),
        "rtt_ms": mean([round.rtt_ms for round in rounds]),
        "batch_size": mean([round.batch_size for round in rounds]),
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
