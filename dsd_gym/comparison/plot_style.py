"""How the pictures look: axes without a window behind them, ticks that people read, one legend below all."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dsd_gym.config import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

# Okabe and Ito (2008), colours that the colour-blind can tell apart, and a dark red; markers tell them apart in grey.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#A00000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#B4B4B4"


class Style(NamedTuple):
    """How one controller is drawn, in every picture."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Form:
    """How wide a picture is, in inches, and whether it carries its own title."""

    width: float = 9.0
    titled: bool = True


def style(index: int) -> Style:
    """Return the style of the `index`-th controller; grey once the colours are used up."""
    return Style(COLOURS[index] if index < len(COLOURS) else GREY, MARKERS[index % len(MARKERS)])


def plain_text(**settings: Any) -> AbstractContextManager[None]:
    """Draw names as they are: a `$` of a name begins no formula. `settings` are more of matplotlib's."""
    from matplotlib import rc_context

    parameters: dict[Any, Any] = {"text.parse_math": False, **settings}
    return rc_context(parameters)


def make_grid(
    rows: int, columns: int, width: float, height: float, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure without a window behind it, and its axes in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, list(axes.flat)


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend of one panel below all of them, in fewer columns where the names are long."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        characters = max(map(len, labels)) + 6
        fitting = int(figure.get_figwidth() * 13.0 / characters)  # at 10 points an inch holds some 13
        figure.legend(
            handles, labels, loc="outside lower center", ncols=max(1, min(columns, fitting)), frameon=False
        )


def ratio_ticks(axes: Axes, most: int = 12) -> None:
    """Mark a logarithmic axis of ratios by the difference in %, at `most` places or so."""
    from matplotlib.ticker import NullLocator

    low, high = axes.get_xlim()
    ticks = spaced_percents(low, high, most)
    labels = [f"{tick:+d} %" if tick else "0 %" for tick in ticks]
    axes.set_xticks([1.0 + tick / 100.0 for tick in ticks], labels)
    axes.xaxis.set_minor_locator(NullLocator())


def spaced_percents(low: float, high: float, most: int = 12) -> list[int]:
    """Return differences in %, from 0 outwards, a `most`-th of the axis from `low` to `high` or more apart."""
    gap = math.log(high / low) / most
    kept = [0]
    for way in (range(-1, -100, -1), (*range(1, 101), *range(125, 1000, 25), *range(1000, 100_000, 500))):
        last = 0.0
        for tick in way:
            place = math.log1p(tick / 100.0)
            if abs(place - last) >= gap and tick % _step(tick, gap) == 0:
                kept.append(tick)
                last = place
    return [tick for tick in sorted(kept) if low <= 1.0 + tick / 100.0 <= high]


def _step(tick: int, gap: float) -> int:
    """Return what a tick must be a multiple of, to be round where ticks stand `gap` (in logarithms) apart."""
    wide = 100.0 * gap * max(1.0, 1.0 + tick / 100.0)
    return next((step for step in (1, 2, 5, 10, 25, 50, 100, 500) if step >= wide / 2.0), 1000)


def plain_ticks(axes: Axes, within_decade: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Label a logarithmic axis 2, 5, 10 instead of powers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=within_decade))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def window_colours(max_window: int) -> ListedColormap:
    """Return a colour for each window, grey for 0: the cloud."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgba

    shades = colormaps["viridis"](np.linspace(0.0, 1.0, max_window))
    return ListedColormap([to_rgba("#D0D0D0"), *map(tuple, shades)])


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG; ConfigError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, format="png")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return path
