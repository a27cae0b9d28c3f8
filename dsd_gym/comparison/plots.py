"""A comparison as pictures (PNG). matplotlib is loaded when the first is drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsd_gym.comparison.evaluation import OVERALL, Evaluation, WindowMap
from dsd_gym.comparison.plot_style import (
    COLOURS,
    GREY,
    Form,
    Style,
    legend,
    make_grid,
    plain_text,
    plain_ticks,
    ratio_ticks,
    save,
    style,
    window_colours,
)
from dsd_gym.comparison.series import BIN_MS
from dsd_gym.comparison.statistics import MIN_SEEDS, interval_words
from dsd_gym.comparison.tables import short_names
from dsd_gym.comparison.window_map import setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_OVER_TIME = ("flash_crowd", "mobile_4g")
PNG = Form()
SHARES = 201


def draw_all(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw every picture that the evaluation has something for; return the files written."""
    pictures: dict[str, Callable[[], Figure]] = {"tpot_distribution": lambda: tpot_distribution(evaluation)}
    if "latency" in evaluation.scores.values() and len(evaluation.controllers) > 1:
        pictures["normalised_latency"] = lambda: relative_latency(evaluation)
    for scenario in _to_show_over_time(evaluation):
        pictures[f"over_time_{scenario.replace('/', '_')}"] = lambda scenario=scenario: over_time(
            evaluation, scenario
        )  # type: ignore[misc]
    if evaluation.window_maps:
        pictures["window_map"] = lambda: window_map(evaluation.window_maps)
    with plain_text():
        return [save(draw(), folder / f"{name}.png") for name, draw in pictures.items()]


def relative_latency(evaluation: Evaluation, form: Form = PNG) -> Figure:
    """Draw each controller's normalised latency over the reference's with its interval: a panel a scenario."""
    scenarios = [name for name, score in evaluation.scores.items() if score == "latency"] + [OVERALL]
    controllers = [spec for spec in evaluation.controllers if spec != evaluation.reference]
    columns = max(1, min(int(form.width / 3.0), len(scenarios)))
    rows = math.ceil(len(scenarios) / columns)
    height = 1.0 + rows * (0.7 + 0.17 * len(controllers))
    figure, grid = make_grid(rows, columns, form.width, height, sharey=True)
    names, styles = short_names(evaluation.controllers), _styles(evaluation)
    for axes, scenario in zip(grid, scenarios, strict=False):
        for place, spec in enumerate(controllers):
            ratio, look = evaluation.summaries[scenario, spec].ratio, styles[spec]
            spread = np.nan_to_num([[ratio.estimate - ratio.low], [ratio.high - ratio.estimate]])
            axes.errorbar(
                ratio.estimate, place, xerr=spread, fmt=look.marker, color=look.colour, markersize=5, capsize=2
            )
        axes.axvline(1.0, color=styles[evaluation.reference].colour, linewidth=1)
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xscale("log")
        ratio_ticks(axes, 5 if columns > 1 else round(1.3 * form.width))
        bold = "bold" if scenario == OVERALL else None
        axes.set_title(textwrap.fill(scenario, 24), fontsize=10, fontweight=bold)
    grid[0].set_yticks(range(len(controllers)), [names[spec] for spec in controllers])
    grid[0].set_ylim(len(controllers) - 0.5, -0.5)
    for axes in grid[len(scenarios) :]:
        axes.set_visible(False)
    reference = names[evaluation.reference]
    figure.supxlabel(f"normalised latency against {reference} (less is better)", fontsize=10)
    if form.titled:
        figure.suptitle(f"Normalised latency against {reference}\n{_caption(evaluation, intervals=True)}")
    return figure


def tpot_distribution(evaluation: Evaluation) -> Figure:
    """Draw the share of requests below each TPOT, a panel a scenario."""
    scenarios = list(evaluation.scores)
    columns = min(len(scenarios), 4)
    rows = math.ceil(len(scenarios) / columns)
    figure, grid = make_grid(rows, columns, 3.2 * columns + 0.5, 2.6 * rows + 1.0, sharey=True)
    for axes, scenario in zip(grid, scenarios, strict=False):
        tpot_panel(axes, evaluation, scenario)
        axes.set_title(scenario)
    for axes in grid[::columns]:
        axes.set_ylabel("share of requests")
    for axes in grid[len(scenarios) :]:
        axes.set_visible(False)
    legend(figure, grid[0], 4)
    figure.suptitle(f"TPOT of the scored requests\n{_caption(evaluation)}")
    return figure


def tpot_panel(axes: Axes, evaluation: Evaluation, scenario: str) -> None:
    """Draw the share of one scenario's requests below each TPOT, pooled over seeds; policies above the rest."""
    names, styles = short_names(evaluation.controllers), _styles(evaluation)
    shares, others = np.linspace(0.0, 1.0, SHARES), False
    for spec in sorted(evaluation.controllers, key=lambda spec: styles[spec].colour == GREY):
        found = [row.tpot_quantiles_ms for row in evaluation.cell(scenario, spec) if row.tpot_quantiles_ms]
        if found:
            pooled, look = np.quantile(np.concatenate(found), shares), styles[spec]
            label = names[spec] if look.colour != GREY else None if others else "others"
            others = others or look.colour == GREY
            depth = 4 if _learned(spec) else 3 if look.colour != GREY else 2
            width = 2.0 if _learned(spec) else 1.2
            axes.plot(pooled, shares, color=look.colour, linewidth=width, zorder=depth, label=label)
    axes.set(xscale="log", xlabel="TPOT (ms per token)")
    plain_ticks(axes)


def over_time(evaluation: Evaluation, scenario: str, form: Form = PNG) -> Figure:
    """Draw the window beside cloud share, round trip and load along one scenario's first seed."""
    panels = {
        "window": "mean window\n(edge rounds)",
        "cloud_share": "share decoded\nin the cloud",
        "rtt_ms": "round trip (ms)",
        "live_requests": "requests\nin the system",
    }
    figure, grid = make_grid(len(panels), 1, form.width, min(8.0, 1.4 * form.width), sharex=True)
    names, styles = short_names(evaluation.controllers), _styles(evaluation)
    for spec in adaptive(evaluation.controllers) or evaluation.controllers:
        series, look = evaluation.cell(scenario, spec)[0].series or {}, styles[spec]
        for axes, name in zip(grid, panels, strict=True):
            values = [math.nan if value is None else value for value in series.get(name, ())]
            seconds = (np.arange(len(values)) + 0.5) * BIN_MS / 1000.0
            axes.plot(seconds, values, color=look.colour, linewidth=1.2, label=names[spec])
    for axes, label in zip(grid, panels.values(), strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(0.0, 1.08 * axes.get_ylim()[1])
        axes.grid(color="#E5E5E5", linewidth=0.6)
    grid[-1].set_xlabel("time (s)")
    legend(figure, grid[0], 4)
    if form.titled:
        figure.suptitle(
            f"{scenario}: the window beside link and load (seed {min(evaluation.seeds)}, means of 1 s)"
        )
    return figure


def window_map(maps: Sequence[WindowMap], form: Form | None = None) -> Figure:
    """Draw the window over round trip x acceptance: a row a controller, a column a load."""
    controllers = list(dict.fromkeys(found.controller for found in maps))
    loads = list(dict.fromkeys(found.batch_size for found in maps))
    names = short_names(controllers)
    form = form or Form(3.4 * len(loads) + 1.0)
    figure, grid = make_grid(len(controllers), len(loads), form.width, 2.9 * len(controllers) + 0.8)
    limit = max(found.max_window for found in maps)
    for found in maps:
        row, column = controllers.index(found.controller), loads.index(found.batch_size)
        axes = grid[row * len(loads) + column]
        mesh = axes.pcolormesh(
            found.rtt_ms,
            found.acceptance,
            found.windows,
            cmap=window_colours(limit),
            vmin=-0.5,
            vmax=limit + 0.5,
            shading="nearest",
            rasterized=True,
        )
        axes.set(xscale="log", title=f"{names[found.controller]}, batch of {found.batch_size}")
        plain_ticks(axes, (1.0, 3.0))
        if row == len(controllers) - 1:
            axes.set_xlabel("round trip (ms)")
        if column == 0:
            axes.set_ylabel("acceptance estimate")
    bar = figure.colorbar(mesh, ax=list(grid), label="window (tokens); 0: the cloud decodes")
    bar.set_ticks(range(0, limit + 1, 2))
    if form.titled:
        figure.suptitle(f"Window chosen over round trip and acceptance\n{setting(maps[0])}")
    return figure


def _to_show_over_time(evaluation: Evaluation) -> list[str]:
    """Return the scenarios in which most changes, of those that are there; else the first."""
    if not adaptive(evaluation.controllers):
        return []
    return [name for name in SHOWN_OVER_TIME if name in evaluation.scores] or list(evaluation.scores)[:1]


def adaptive(controllers: Sequence[str]) -> list[str]:
    """Return AWC and policies; without any, whatever is not a fixed window."""
    moving = [spec for spec in controllers if not spec.startswith("static:")]
    return [spec for spec in moving if spec == "awc" or _learned(spec)] or moving


def _learned(spec: str) -> bool:
    return spec.endswith(".safetensors")


def _styles(evaluation: Evaluation) -> dict[str, Style]:
    """Return how each controller is drawn, the same in every picture.

    Where there are more than colours, these go to the reference, to policies and to the best of the others.
    """
    first = [evaluation.reference, *filter(_learned, evaluation.controllers)]

    def rank(spec: str) -> tuple[int, float]:
        overall = evaluation.summaries.get((OVERALL, spec))
        return first.index(spec) if spec in first else len(first), overall.ratio.estimate if overall else 0.0

    order = evaluation.controllers
    if len(order) > len(COLOURS):
        order = sorted(order, key=rank)
    return {spec: style(index) for index, spec in enumerate(order)}


def _caption(evaluation: Evaluation, intervals: bool = False) -> str:
    cap = evaluation.max_requests
    capped = f"at most {cap:,} requests a cell" if cap else "no cap on requests"
    seeds = len(evaluation.seeds)
    parts = [f"{seeds} seed{'s' if seeds > 1 else ''}", capped]
    if intervals and seeds >= MIN_SEEDS:
        parts.append(f"bars: {interval_words(seeds)}, paired")
    return "; ".join(parts)
