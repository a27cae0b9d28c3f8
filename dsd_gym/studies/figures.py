"""A study as pictures (PNG): its lines along the axis, a panel for each value of the second, and what is read off."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsd_gym.comparison.plot_style import COLOURS, MARKERS, legend, make_grid, save
from dsd_gym.studies.readings import BestWindow, Read, estimate
from dsd_gym.studies.study import Axis, Study, lines
from dsd_gym.studies.sweep import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")
MOST_NAMES = 16
"""That a logarithmic axis has room for, side by side."""
LABELS = {
    "normalised_latency_ms": "normalised latency (ms per token)",
    "tpot_ms": "TPOT (ms per token)",
    "tpot_ms_p95": "95th percentile of TPOT (ms per token)",
    "ttft_ms": "TTFT (ms)",
    "throughput_tokens_s": "throughput (tokens/s)",
    "goodput_requests_s": "goodput (requests/s)",
    "slo_attainment": "share of requests within their SLO",
    "mean_window": "mean window (tokens)",
    "cloud_share": "share of tokens decoded in the cloud",
    "acceptance_rate": "acceptance rate",
    "mean_acceptance_length": "tokens a round at the edge",
    "target_utilisation": "target utilisation",
}


def draw_lines(study: Study, results: Results, path: Path) -> Path:
    """Draw the first metric along the axis, means over seeds with 95 % intervals."""
    figure, grid = _panels(study)
    metric = study.metrics[0]
    for panel, axes in enumerate(grid):
        for index, line in enumerate(lines(study)):
            shade, style = _look(study, index)
            places = range(len(study.x.values))
            found = [estimate([seed[metric] for seed in results[panel, x, line]], metric) for x in places]
            spread = [
                [0.0 if math.isnan(e.low) else e.value - e.low for e in found],
                [0.0 if math.isnan(e.high) else e.high - e.value for e in found],
            ]
            axes.errorbar(
                _shifted(study, index),
                [e.value for e in found],
                yerr=spread,
                color=COLOURS[shade % len(COLOURS)],
                marker=MARKERS[shade % len(MARKERS)],
                linestyle="" if study.x.names else STYLES[style % len(STYLES)],
                markersize=4,
                linewidth=1.3,
                capsize=2,
                label=line.name,
            )
        if study.log_y:
            axes.set_yscale("log")
            _plain(axes.yaxis)
    if not study.log_y:
        grid[0].set_ylim(bottom=0.0)  # once all panels are drawn: they share the axis
    grid[0].set_ylabel(LABELS.get(metric, metric))
    _titled(study, figure, grid, f"{study.seeds} seeds{', bars: 95 % intervals' if study.seeds > 3 else ''}")
    return save(figure, path)


def _look(study: Study, index: int) -> tuple[int, int]:
    """Return the colour and the stroke of a line: of its variant and its controller where there are several of both."""
    variants, count = len(study.variants), len(study.controllers)
    return (index // count, index % count) if variants > 1 and count > 1 and variants * count > 4 else (index, 0)


def draw_best_windows(study: Study, found: Sequence[BestWindow], path: Path) -> Path:
    """Draw the best fixed window along the axis; hollow marks show those that are as good within the band."""
    figure, grid = _panels(study)
    for panel, axes in enumerate(grid):
        for index, variant in enumerate(study.variants):
            here = [best for best in found if (best.panel, best.variant) == (panel, index)]
            colour, mark, places = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], _shifted(study, index)
            label = variant.name or "best fixed window"
            axes.plot(places, [best.window for best in here], marker=mark, color=colour, linewidth=1.3, label=label)
            for place, best in zip(places, here, strict=True):
                others = [window for window in best.as_good if window != best.window]
                axes.plot([place] * len(others), others, mark, color=colour, fillstyle="none")
        axes.set_ylim(-0.5, None)
    grid[0].set_ylabel("best fixed window (tokens; 0: cloud)")
    band = study.reading.band if study.reading else 0.01
    _titled(study, figure, grid, f"{study.seeds} seeds, hollow: as good within {100 * band:g} %")
    return save(figure, path)


def draw_reads(study: Study, reads: Sequence[Read], label: str, path: Path) -> Path:
    """Draw what was read off, against the second axis where there is one, else a row each."""
    names = list(dict.fromkeys(read.name for read in reads))
    if study.panels is None:
        return _draw_rows(study, reads, label, path)
    figure, (axes,) = make_grid(1, 1, 7.0, 4.6)
    for index, name in enumerate(names):
        mine = [read for read in reads if read.name == name]
        places = _aside(study.panels, index, len(names))
        _draw_reads(axes, [places[read.panel] for read in mine], mine, index, name)
    axes.set_xlabel(study.panels.label)
    _ticks(axes, study.panels)
    axes.set_ylabel(label)
    if study.x.log:
        axes.set_yscale("log")
        _plain(axes.yaxis)
    legend(figure, axes, 3)
    figure.suptitle(_read_title(study, reads), fontsize=11)
    return save(figure, path)


def _read_title(study: Study, reads: Sequence[Read]) -> str:
    beyond = "\ntriangles: beyond what was swept" if any(read.beyond for read in reads) else ""
    return f"{study.title}\nscenario {study.scenario}; {study.seeds} seeds, bars: 95 % intervals{beyond}"


def _draw_rows(study: Study, reads: Sequence[Read], label: str, path: Path) -> Path:
    figure, (axes,) = make_grid(1, 1, 7.0, 1.4 + 0.4 * len(reads))
    for index, read in enumerate(reads):
        low, high = _spread(read)
        mark = {"": "o", "<": "<", ">": ">"}[read.beyond]
        axes.errorbar([read.at.value], [index], xerr=[[low], [high]], fmt=mark, color=COLOURS[4], capsize=3)
    axes.set_yticks(range(len(reads)), [read.name for read in reads])
    axes.set_ylim(len(reads) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.6)
    axes.set_xlim(left=0.0)
    figure.suptitle(_read_title(study, reads), fontsize=11)
    return save(figure, path)


def _draw_reads(axes: Axes, places: Sequence[float], reads: Sequence[Read], index: int, name: str) -> None:
    low, high = zip(*(_spread(read) for read in reads), strict=True)
    colour = COLOURS[index % len(COLOURS)]
    values = [read.at.value for read in reads]
    axes.errorbar(places, values, yerr=[low, high], color=colour, linewidth=1.3, capsize=3, label=name)
    for place, read in zip(places, reads, strict=True):
        mark = {"": MARKERS[index % len(MARKERS)], "<": "v", ">": "^"}[read.beyond]
        axes.plot([place], [read.at.value], mark, color=colour, markersize=5)


def _spread(read: Read) -> tuple[float, float]:
    if math.isnan(read.at.low):
        return 0.0, 0.0
    return max(0.0, read.at.value - read.at.low), max(0.0, read.at.high - read.at.value)


def _panels(study: Study) -> tuple[Figure, list[Axes]]:
    count = len(study.panels.values) if study.panels else 1
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    width = {1: 7.0, 2: 9.0}.get(columns, 12.0)
    figure, grid = make_grid(rows, columns, width, 3.4 * rows + 1.2, sharey=True)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def _titled(study: Study, figure: Figure, grid: Sequence[Axes], note: str) -> None:
    for panel, axes in enumerate(grid):
        axes.set_xlabel(study.x.label)
        _ticks(axes, study.x)
        axes.grid(color="#E5E5E5", linewidth=0.6)
        if study.panels:
            label = "" if study.panels.names else f"{study.panels.label}: "
            axes.set_title(f"{label}{study.panels.name(panel)}", fontsize=10)
    legend(figure, grid[0], 3)
    figure.suptitle(f"{study.title}\nscenario {study.scenario}; {note}", fontsize=11)


def _ticks(axes: Axes, axis: Axis) -> None:
    if axis.log:
        axes.set_xscale("log")
        _plain(axes.xaxis)
    if axis.log or axis.names:
        from matplotlib.ticker import NullLocator

        told = _told_apart(axis) if axis.log else range(len(axis.values))
        axes.set_xticks([axis.places[i] for i in told], [textwrap.fill(axis.name(i), 16) for i in told])
        axes.xaxis.set_minor_locator(NullLocator())


def _told_apart(axis: Axis) -> list[int]:
    """Return which values of a logarithmic axis are named: the ends, and others that leave room for their names."""
    places = [math.log(place) for place in axis.places]
    room = (max(places) - min(places)) / MOST_NAMES
    told = [0]
    for index in range(1, len(places)):
        last = index == len(places) - 1
        if abs(places[index] - places[told[-1]]) >= room and (last or abs(places[-1] - places[index]) >= room):
            told.append(index)
    return told


def _plain(axis: object) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))  # type: ignore[attr-defined]
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]


def _shifted(study: Study, index: int) -> list[float]:
    """Return the places of a line along the study's axis."""
    return _aside(study.x, index, len(lines(study)))


def _aside(axis: Axis, index: int, count: int) -> list[float]:
    """Return the places of a line, a little aside of those of `count` others, so that bars do not hide each other."""
    aside = (index - (count - 1) / 2.0) * (0.03 if axis.names else 0.004)
    if axis.log:
        return [place * (1.0 + aside) for place in axis.places]
    width = max(axis.places) - min(axis.places)
    return [place + aside * width for place in axis.places]
