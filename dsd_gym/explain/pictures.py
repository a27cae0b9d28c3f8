"""What a policy heeds, as bars. matplotlib is loaded when they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsd_gym.comparison.evaluation import WindowMap
from dsd_gym.comparison.plot_style import COLOURS, make_grid, plain_text, save
from dsd_gym.comparison.plots import window_map
from dsd_gym.explain.importance import Importance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_SINGLES = 12


def draw(maps: Sequence[WindowMap], importances: Sequence[Importance], folder: Path, prefix: str) -> dict[str, str]:
    """Write both pictures; return {what: file name}."""
    with plain_text():
        figures = {"window_map": window_map(maps), "importance": importance_bars(importances)}
        return {what: save(figure, folder / f"{prefix}{what}.png").name for what, figure in figures.items()}


def importance_bars(importances: Sequence[Importance]) -> Figure:
    """Draw the loss of latency and the share of decisions changed, groups above, the first features below."""
    groups = [found for found in importances if found.is_group]
    shown = groups + [found for found in importances if not found.is_group][:SHOWN_SINGLES]
    figure, (loss, changed) = make_grid(1, 2, 9.0, 1.2 + 0.27 * len(shown), sharey=True)
    at = np.arange(len(shown))
    colours = [COLOURS[4] if found.is_group else COLOURS[2] for found in shown]
    estimates = np.array([found.latency.estimate for found in shown])
    bounds = np.array([[found.latency.low, found.latency.high] for found in shown]).T
    told = not np.isnan(bounds).any()  # few seeds allow no interval
    spread = 100.0 * np.abs(bounds - estimates) if told else None
    loss.barh(at, 100.0 * (estimates - 1.0), xerr=spread, color=colours, capsize=2)
    changed.barh(at, [100.0 * found.changed for found in shown], color=colours)
    loss.set_xlabel("normalised latency, change in %" + ("\n(bars: 95 % intervals)" if told else ""))
    changed.set_xlabel("decisions that change, %")
    loss.set_yticks(at, [found.name for found in shown])
    loss.invert_yaxis()
    for axes in (loss, changed):
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.axhline(len(groups) - 0.5, color="#A0A0A0", linewidth=0.8)
    figure.suptitle("What happens when features are those of another decision (groups above, features alone below)")
    return figure
