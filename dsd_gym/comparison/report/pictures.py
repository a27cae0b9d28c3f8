"""The pictures of a report and what they show in words; nothing where matplotlib is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dsd_gym.comparison.evaluation import OVERALL, Evaluation
from dsd_gym.comparison.plot_style import Form, legend, make_grid, plain_text
from dsd_gym.comparison.plots import adaptive, over_time, relative_latency, tpot_panel, window_map
from dsd_gym.comparison.report.markup import Html, element
from dsd_gym.comparison.report.results import anchor
from dsd_gym.comparison.report.svg import SETTINGS, inline_svg
from dsd_gym.comparison.report.words import listed
from dsd_gym.comparison.tables import percent, short_names, three_digits
from dsd_gym.comparison.window_map import setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NARROW = Form(4.8, titled=False)
"""Readable at the width of a phone, and two of them side by side on a desk."""
WIDE = Form(9.0, titled=False)


def available() -> bool:
    """Return whether pictures can be drawn."""
    return find_spec("matplotlib") is not None


def drawing() -> AbstractContextManager[None]:
    """Set matplotlib up for as long as pictures are drawn."""
    return plain_text(**SETTINGS) if available() else nullcontext()


def overall_pictures(evaluation: Evaluation) -> Iterator[Html]:
    """Yield the pictures of the whole comparison."""
    if not available():
        return
    if "latency" in evaluation.scores.values() and len(evaluation.controllers) > 1:
        caption = f"Normalised latency against {short_names(evaluation.controllers)[evaluation.reference]}"
        figure = relative_latency(evaluation, NARROW)
        yield _picture(figure, "relative-latency", caption, _relative_words(evaluation))
    if evaluation.window_maps:
        caption = f"Window chosen over round trip and acceptance, {setting(evaluation.window_maps[0])}"
        yield _picture(window_map(evaluation.window_maps, WIDE), "window-map", caption, _map_words(evaluation), "wide")


def scenario_pictures(evaluation: Evaluation, scenario: str) -> Iterator[Html]:
    """Yield the pictures of one scenario."""
    if not available():
        return
    name = anchor(evaluation, scenario)
    caption = f"TPOT of the scored requests in {scenario}"
    yield _picture(_tpot(evaluation, scenario), f"tpot-{name}", caption, _tpot_words(evaluation, scenario))
    if any(row.series for row in evaluation.rows if row.scenario == scenario):
        caption = f"Along {scenario}: window, link and load (seed {min(evaluation.seeds)}, means of 1 s)"
        figure = over_time(evaluation, scenario, NARROW)
        yield _picture(figure, f"time-{name}", caption, _time_words(evaluation))


def _picture(figure: Figure, name: str, caption: str, words: str, class_: str | None = None) -> Html:
    drawn = element("div", inline_svg(figure, name, words), class_="drawing", tabindex="0" if class_ else None)
    return element("figure", drawn, element("figcaption", caption), class_=class_)


def _tpot(evaluation: Evaluation, scenario: str) -> Figure:
    figure, (axes,) = make_grid(1, 1, NARROW.width, 5.0)
    tpot_panel(axes, evaluation, scenario)
    axes.set_ylabel("share of requests")
    legend(figure, axes, 4)
    return figure


def _relative_words(evaluation: Evaluation) -> str:
    names = short_names(evaluation.controllers)
    said = [
        f"{names[spec]} {percent(evaluation.summaries[OVERALL, spec].ratio.estimate)} %"
        for spec in evaluation.controllers
        if spec != evaluation.reference
    ]
    return f"Points with intervals for each scenario and controller. Over all scenarios: {listed(said)}."


def _map_words(evaluation: Evaluation) -> str:
    maps = evaluation.window_maps
    names = short_names(list(dict.fromkeys(found.controller for found in maps)))
    batches = listed([str(batch) for batch in dict.fromkeys(found.batch_size for found in maps)])
    return f"Coloured maps of the window that {listed(list(names.values()))} would choose, at batches of {batches}."


def _tpot_words(evaluation: Evaluation, scenario: str) -> str:
    names = short_names(evaluation.controllers)
    said = [f"{names[spec]} {three_digits(evaluation.mean(scenario, spec, 'tpot_ms_p50'))} ms" for spec in names]
    return f"Share of requests below each TPOT, a curve for each controller. Medians: {listed(said)}."


def _time_words(evaluation: Evaluation) -> str:
    names = short_names(evaluation.controllers)
    shown = [names[spec] for spec in adaptive(evaluation.controllers) or evaluation.controllers]
    return f"Four curves over time, for {listed(shown)}: mean window, cloud share, round trip, requests in the system."
