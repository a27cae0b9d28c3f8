"""Edge or cloud: who goes where, by what the cloud is expected to cost, and by where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress
from dsd_gym.explain.acts import Rows, Windows
from dsd_gym.explain.runs import Cells, Work, pooled, run_each
from dsd_gym.priced_inputs import ASKED, asked_many

RATIOS = (0.0, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0, 1.1, 1.25, 1.5, math.inf)
"""Bounds of the rows: what the cloud costs over what the best window does, others' delay charged three times."""
PLACES = ("at the edge", "first decision", "in the cloud")
KEPT_ROWS = 3_000
"""Decisions of each run that are counted."""
FEWEST = 30
"""Decisions below which no share is told."""


class Side(NamedTuple):
    """Decisions in one range of ratios: how many in each of `PLACES`, and the share of them that go to the cloud."""

    low: float
    high: float
    counts: tuple[int, ...]
    cloud_shares: tuple[float, ...]


def sides(
    policy: str, make_controller: MakeController, cells: Cells, jobs: int = 1, progress: Progress | None = None
) -> list[Side]:
    """Return where a policy's decisions go in its own runs."""
    (seen,) = run_each([Work(cells, policy, make_controller, keep=KEPT_ROWS)], jobs, progress)
    rows, _, done = pooled(seen)
    return counted(asked_many(rows), done)


def counted(asked: Rows, done: Windows) -> list[Side]:
    """Return the same of rows of what trees ask about (`priced_inputs.ASKED`) and of what was decided."""
    names = list(ASKED)
    ratio = np.exp(2.0 * (asked[:, names.index("cloud_over_edge_dear")] - 0.5))
    cloud_mode = asked[:, names.index("cloud_mode")] > 0.5
    begins = ~cloud_mode & (asked[:, names.index("has_last_confidence")] < 0.5)
    places = (~cloud_mode & ~begins, begins, cloud_mode)
    found = []
    for low, high in pairwise(RATIOS):
        inside = [place & (ratio >= low) & (ratio < high) for place in places]
        shares = (float((done[rows] == 0).mean()) if rows.any() else math.nan for rows in inside)
        found.append(Side(low, high, tuple(int(rows.sum()) for rows in inside), tuple(shares)))
    return found


def table(found: Sequence[Side]) -> list[list[str]]:
    """Return a head and a row for each range: `31 % of 1,234`, nothing where there are too few."""
    rows = [["cloud over best window", *PLACES]]
    for side in found:
        shown = f"{side.low:g} to {side.high:g}" if math.isfinite(side.high) else f"from {side.low:g}"
        pairs = zip(side.cloud_shares, side.counts, strict=True)
        rows.append([shown, *(f"{100.0 * share:.0f} % of {n:,}" if n >= FEWEST else "-" for share, n in pairs)])
    return rows
