"""A study as a page of Markdown: the question, how it was asked, the figures, every number, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dsd_gym.comparison.statistics import paired_ratio
from dsd_gym.studies.figures import LABELS
from dsd_gym.studies.readings import BestWindow, Estimate, Read, estimate
from dsd_gym.studies.study import Line, Study, lines
from dsd_gym.studies.sweep import Results


def page(
    study: Study,
    results: Results,
    command: str,
    pictures: Sequence[str],
    reads: Sequence[Read],
    best: Sequence[BestWindow],
) -> str:
    """Return the page."""
    parts = [f"# {study.title}", study.question, _how(study, command)]
    if study.finding:
        parts.append(f"## What it shows\n\n{study.finding.strip()}")
    parts += [f"![{study.title}]({picture})" for picture in pictures]
    if reads:
        parts.append(f"## {_read_title(study)}\n\n{_reads_table(study, reads)}")
    if best:
        parts.append(f"## Best fixed window\n\n{_best_table(study, best)}")
    for metric in study.metrics:
        parts.append(f"## {LABELS.get(metric, metric)}\n\n{_table(study, results, metric)}")
    return "\n\n".join(parts) + "\n"


def read_label(study: Study) -> str:
    """Return what the values read off are, with their unit."""
    kind = study.reading.kind if study.reading else ""
    return f"{'crossover' if kind == 'crossover' else 'largest'} {study.x.label}"


def _how(study: Study, command: str) -> str:
    varied = [f"- along the axis: {study.x.label}: {'; '.join(study.x.name(i) for i in range(len(study.x.values)))}"]
    if study.panels:
        names = "; ".join(study.panels.name(i) for i in range(len(study.panels.values)))
        varied.append(f"- panels: {study.panels.label}: {names}")
    shown = [variant for variant in study.variants if variant.name]
    varied += [f"- {variant.name}: {_settings(variant.set) or 'the scenario unchanged'}" for variant in shown]
    changed = f", with {_settings(study.set)}" if study.set else ""
    seeds = f"{study.seeds} seeds, the same luck for every line"
    return f"`{command}`\n\nScenario `{study.scenario}`{changed}; {seeds}.\n\n" + "\n".join(varied)


def _settings(keys: dict[str, object]) -> str:
    return ", ".join(f"`{key}={_shown(value)}`" for key, value in keys.items())


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(study: Study, results: Results, metric: str) -> str:
    head = [*([study.panels.label] if study.panels else []), study.x.label, *(line.name for line in lines(study))]
    rows = []
    for panel in range(len(study.panels.values) if study.panels else 1):
        for x in range(len(study.x.values)):
            cells = [_cell(study, results, panel, x, line, metric) for line in lines(study)]
            rows.append([*([study.panels.name(panel)] if study.panels else []), study.x.name(x), *cells])
    return _markdown(head, rows, left=1 + bool(study.panels))


def _cell(study: Study, results: Results, panel: int, x: int, line: Line, metric: str) -> str:
    values = [seed[metric] for seed in results[panel, x, line]]
    text = _figure(estimate(values, metric))
    reference = next((other for other in lines(study) if other.name == study.reference), None)
    compared = "_ms" in metric or metric.endswith("_s")
    if reference is None or reference == line or not compared:
        return text
    ratio = paired_ratio(values, [seed[metric] for seed in results[panel, x, reference]])
    if math.isnan(ratio.estimate):
        return text
    interval = "" if math.isnan(ratio.low) else f" [{_percent(ratio.low)},{_percent(ratio.high)}]"
    return f"{_number(estimate(values, metric).value)} {_percent(ratio.estimate)} %{interval}"


def _reads_table(study: Study, reads: Sequence[Read]) -> str:
    names = list(dict.fromkeys(read.name for read in reads))
    panels = list(dict.fromkeys(read.panel for read in reads))
    found = {(read.panel, read.name): f"{read.beyond}{_figure(read.at)}" for read in reads}
    if study.panels is None:
        return _markdown(["", read_label(study)], [[name, found[0, name]] for name in names], left=1)
    rows = [[study.panels.name(panel), *(found[panel, name] for name in names)] for panel in panels]
    return _markdown([study.panels.label, *names], rows, left=1)


def _read_title(study: Study) -> str:
    label = read_label(study)
    return label[:1].upper() + label[1:]


def _best_table(study: Study, best: Sequence[BestWindow]) -> str:
    names = [variant.name or "best window" for variant in study.variants]
    head = [*([study.panels.label] if study.panels else []), study.x.label, *names]
    rows = []
    for panel, x in dict.fromkeys((found.panel, found.x) for found in best):
        here = {found.variant: found for found in best if (found.panel, found.x) == (panel, x)}
        cells = [_window(here[variant]) for variant in range(len(study.variants))]
        rows.append([*([study.panels.name(panel)] if study.panels else []), study.x.name(x), *cells])
    return _markdown(head, rows, left=1 + bool(study.panels))


def _window(best: BestWindow) -> str:
    others = [str(window) for window in best.as_good if window != best.window]
    return f"{best.window} ({_number(best.value)}{'; as good: ' + ', '.join(others) if others else ''})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    rule = ["---"] * left + ["--:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def _figure(found: Estimate) -> str:
    if math.isnan(found.low):
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _percent(ratio: float) -> str:
    return f"{100.0 * (ratio - 1.0):+.1f}"
