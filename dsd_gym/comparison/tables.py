"""A comparison as a table: for the terminal (or a pipe) and for a README."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dsd_gym.comparison.evaluation import OVERALL, Evaluation, Score, Summary
from dsd_gym.comparison.statistics import BOOTSTRAP_SEEDS, BOOTSTRAPS, MIN_SEEDS, Ratio, interval_words

WIDTH = 120
MOST_COLUMNS = 10
Cell = list[str]
"""The lines of one cell."""


def text_table(evaluation: Evaluation) -> str:
    """Return the tables and what they mean, at most 120 columns wide; more controllers make more blocks."""
    parts = []
    for score in scores_of(evaluation):
        parts.append(textwrap.fill(heading(evaluation, score), WIDTH))
        parts += _blocks(_grid(evaluation, score))
    return "\n\n".join([*parts, "\n".join(notes(evaluation))]) + "\n"


def markdown_table(evaluation: Evaluation) -> str:
    """Return the same as Markdown, one line a scenario; many controllers have a line each instead."""
    parts = []
    for score in scores_of(evaluation):
        grid = [[" ".join(cell) for cell in row] for row in _grid(evaluation, score)]
        if len(evaluation.controllers) > MOST_COLUMNS:
            grid = [list(column) for column in zip(*grid, strict=True)]
            grid[0][0] = "controller"
        head, *body = grid
        rule = ["---", *["--:"] * (len(head) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in [head, rule, *body]]
        parts.append(heading(evaluation, score) + "\n\n" + "\n".join(lines))
    return "\n\n".join([*parts, "\n".join(notes(evaluation))]) + "\n"


def short_names(controllers: Sequence[str]) -> dict[str, str]:
    """Return what to call each controller: a policy by its file's name, unless two share it."""
    stems = [Path(spec).stem if spec.endswith(".safetensors") else spec for spec in controllers]
    return {
        spec: stem if stems.count(stem) == 1 else spec for spec, stem in zip(controllers, stems, strict=True)
    }


def scores_of(evaluation: Evaluation) -> list[Score]:
    """Return the kinds of score that occur, latency first."""
    return [score for score in ("latency", "throughput") if score in evaluation.scores.values()]


def heading(evaluation: Evaluation, score: Score) -> str:
    """Return what the table of one kind of score shows."""
    what = {
        "latency": "Normalised latency (ms per output token; less is better)",
        "throughput": "Throughput (tokens/s) and goodput (requests/s within both SLOs); more is better",
    }
    count = len(evaluation.seeds)
    seeds = f"mean of {count} seeds" if count > 1 else "1 seed"
    reference = short_names(evaluation.controllers)[evaluation.reference]
    return f"{what[score]}: {seeds}; %: against {reference}"


def _grid(evaluation: Evaluation, score: Score) -> list[list[Cell]]:
    """Return the table as cells of lines: a head, the scenarios, and below latencies the geometric mean."""
    names = short_names(evaluation.controllers)
    grid: list[list[Cell]] = [[["scenario"], *([names[spec]] for spec in evaluation.controllers)]]
    scenarios = [name for name, of in evaluation.scores.items() if of == score]
    for scenario in scenarios + ([OVERALL] if score == "latency" else []):
        cells = [_cell(evaluation, scenario, spec) for spec in evaluation.controllers]
        grid.append([[scenario], *cells])
    totals = [[_totals(evaluation, scenarios, spec)] for spec in evaluation.controllers]
    return [*grid, [["unfinished /", "rejected"], *totals]]


def _totals(evaluation: Evaluation, scenarios: list[str], controller: str) -> str:
    unfinished, rejected = (
        evaluation.total(scenarios, controller, name) for name in ("unfinished", "rejected")
    )
    return f"{unfinished:,} / {rejected:,}"


def _cell(evaluation: Evaluation, scenario: str, controller: str) -> Cell:
    summary = evaluation.summaries[scenario, controller]
    cell = [three_digits(summary.mean)]
    if summary.metric == "throughput_tokens_s":
        cell.append(f"{three_digits(evaluation.mean(scenario, controller, 'goodput_requests_s'))} req/s")
    if summary.window is not None:
        cell[0] += f" (k={summary.window})"
    if controller != evaluation.reference:
        cell += _difference(summary.ratio)
    return cell + (_left_behind(summary) if scenario != OVERALL else [])


def three_digits(value: float) -> str:
    """Return three digits or all before the point: 1234, 123, 12.3, 1.23."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _difference(ratio: Ratio) -> Cell:
    """Return `-5.2 %` and `[-6.1, -4.3]`, the interval where there is one."""
    lines = [f"{percent(ratio.estimate)} %"]
    return lines if math.isnan(ratio.low) else [*lines, f"[{percent(ratio.low)},{percent(ratio.high)}]"]


def percent(ratio: float) -> str:
    """Return a ratio's difference from 1 in percent, with its sign: -12.3, +0.4, +150."""
    if math.isnan(ratio):
        return "-"
    change = 100.0 * (ratio - 1.0)
    return f"{change:+.0f}" if abs(change) >= 99.95 else f"{change:+.1f}"


def _left_behind(summary: Summary) -> Cell:
    counts = ((summary.unfinished, "unfin."), (summary.rejected, "rej."))
    return [f"{count} {what}" for count, what in counts if count]


def _blocks(grid: list[list[Cell]]) -> list[str]:
    """Return the grid as blocks of at most `WIDTH` columns, the first column before each."""
    widths = [max(len(line) for row in grid for line in row[column]) for column in range(len(grid[0]))]
    blocks: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if widths[0] + sum(2 + widths[c] for c in [*blocks[-1], column]) > WIDTH and blocks[-1]:
            blocks.append([])
        blocks[-1].append(column)
    return [_block(grid, widths, [0, *columns]) for columns in blocks]


def _block(grid: list[list[Cell]], widths: list[int], columns: list[int]) -> str:
    lines: list[str] = []
    for index, row in enumerate(grid):
        for line in range(max(len(row[column]) for column in columns)):
            texts = [row[column][line] if line < len(row[column]) else "" for column in columns]
            padded = [texts[0].ljust(widths[0])]
            padded += [
                text.rjust(widths[column]) for text, column in zip(texts[1:], columns[1:], strict=True)
            ]
            lines.append("  ".join(padded).rstrip())
        if index in (0, len(grid) - 2):
            lines.append("-" * (sum(widths[column] for column in columns) + 2 * (len(columns) - 1)))
        elif index < len(grid) - 1 and max(len(row[column]) for column in columns) > 1:
            lines.append("")
    return "\n".join(lines)


def notes(evaluation: Evaluation) -> list[str]:
    """Return, in lines, what a reader must know to take the figures for what they are."""
    return [*_interval_note(evaluation), *_sweep_note(evaluation), *_size_note(evaluation)]


def _interval_note(evaluation: Evaluation) -> list[str]:
    pairing = (
        "Every controller meets the same luck; differences are paired by seed (geometric mean of ratios)."
    )
    if len(evaluation.seeds) < MIN_SEEDS:
        return [pairing, f"Fewer than {MIN_SEEDS} seeds allow no interval."]
    resamples = f", {BOOTSTRAPS:,} resamples" if len(evaluation.seeds) >= BOOTSTRAP_SEEDS else ""
    return [pairing, f"Brackets: {interval_words(len(evaluation.seeds))}{resamples}."]


def _sweep_note(evaluation: Evaluation) -> list[str]:
    if "static:best" not in evaluation.controllers:
        return ["No sweep was made for the best fixed window."]
    return ["static:best: the best fixed window k in hindsight, found by a sweep on the same seeds."]


def _size_note(evaluation: Evaluation) -> list[str]:
    scored = [
        evaluation.summaries[scenario, evaluation.reference].scored_requests for scenario in evaluation.scores
    ]
    cap = evaluation.max_requests
    capped = f"at most {cap:,} requests a cell" if cap else "none, every scenario runs its whole horizon"
    return [
        f"Requests scored: {min(scored):,} to {max(scored):,} a scenario, over all seeds. Decisions: at most "
        f"{max(row.decisions for row in evaluation.rows):,} a cell.",
        f"Cap: {capped}.",
        "Unfinished and rejected requests are charged all the time a run allows.",
    ]
