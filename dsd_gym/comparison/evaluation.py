"""What a comparison leaves behind: rows (scenario, controller, seed), and what follows from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dsd_gym.comparison.statistics import Ratio, log_ratios, mean_ratio
from dsd_gym.config import ConfigError, build, to_dict
from dsd_gym.files import write_atomically

OVERALL = "geometric mean"
"""Stands for the scenario in what is said of all scenarios scored by latency."""

Score = Literal["latency", "throughput"]
SCORE_METRIC: dict[str, str] = {"latency": "normalised_latency_ms", "throughput": "throughput_tokens_s"}
_COUNTS = ("scored_requests", "unfinished", "rejected")


@dataclass(frozen=True)
class Row:
    """One controller's run of one scenario with one seed: a cell."""

    scenario: str
    controller: str
    seed: int
    score: Score
    decisions: int
    metrics: dict[str, float | None]
    """`metrics.summarise`; None for what never happened."""
    tpot_quantiles_ms: tuple[float, ...] = ()
    """The 0 % to 100 % quantiles of the scored requests' TPOT, in equal steps."""
    series: dict[str, tuple[float | None, ...]] | None = None
    """`series.binned`, of the first seed alone."""
    window: int | None = None
    """The window that `static:best` stands for."""


@dataclass(frozen=True)
class WindowMap:
    """What one controller chooses over RTT x acceptance at one load: `windows[acceptance][rtt]`."""

    controller: str
    target: str
    batch_size: int
    rtt_ms: tuple[float, ...]
    acceptance: tuple[float, ...]
    windows: tuple[tuple[int, ...], ...]
    max_window: int

    def __post_init__(self) -> None:
        if [len(row) for row in self.windows] != [len(self.rtt_ms)] * len(self.acceptance):
            raise ValueError("windows must have a row for each acceptance, as long as rtt_ms")


@dataclass(frozen=True)
class Summary:
    """One controller in one scenario, or over all of them, against the reference."""

    scenario: str
    controller: str
    metric: str
    mean: float
    """Over seeds; over scenarios the geometric mean."""
    ratio: Ratio
    """To the reference, paired by seed; below 1 is better for latency, above 1 for throughput."""
    window: int | None
    scored_requests: int
    unfinished: int
    rejected: int


@dataclass(frozen=True)
class Evaluation:
    """A whole comparison. Everything but the rows is derived from them."""

    command: str
    package_version: str
    reference: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    max_requests: int | None = None
    """The cap on the requests of a cell; None where the scenarios' own horizons are all."""
    window_maps: tuple[WindowMap, ...] = ()
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The resolved config of each scenario as plain data, which an older or newer `Scenario` need not understand."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python and the packages that the figures rest on."""

    @cached_property
    def controllers(self) -> list[str]:
        return list(dict.fromkeys(row.controller for row in self.rows))

    @cached_property
    def scores(self) -> dict[str, Score]:
        """What each scenario is scored by, in order."""
        return {row.scenario: row.score for row in self.rows}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Row]]:
        cells: dict[tuple[str, str], list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row.seed):
            cells.setdefault((row.scenario, row.controller), []).append(row)
        return cells

    def cell(self, scenario: str, controller: str) -> list[Row]:
        """Return the rows of one controller in one scenario, by seed."""
        return self._cells[scenario, controller]

    def values(self, scenario: str, controller: str, metric: str) -> list[float]:
        """Return a metric's values by seed, nan where there is none."""
        found = (row.metrics.get(metric) for row in self.cell(scenario, controller))
        return [math.nan if value is None else value for value in found]

    def mean(self, scenario: str, controller: str, metric: str) -> float:
        """Return a metric's mean over seeds."""
        return float(np.mean(self.values(scenario, controller, metric)))

    def total(self, scenarios: Iterable[str], controller: str, count: str) -> int:
        """Return the sum of a count over scenarios and seeds."""
        return int(sum(sum(self.values(scenario, controller, count)) for scenario in scenarios))

    @cached_property
    def summaries(self) -> dict[tuple[str, str], Summary]:
        """What is said of each (scenario, controller), and of (OVERALL, controller)."""
        latency = [scenario for scenario, score in self.scores.items() if score == "latency"]
        found = {}
        for controller in self.controllers:
            logs = {scenario: self._log_ratios(scenario, controller) for scenario in self.scores}
            for scenario, of_seeds in logs.items():
                found[scenario, controller] = self._summary(scenario, controller, of_seeds)
            if latency:
                # Resampling seeds jointly for all scenarios is resampling each seed's mean over scenarios.
                means = np.mean([logs[scenario] for scenario in latency], axis=0).tolist()
                found[OVERALL, controller] = self._summary(OVERALL, controller, means, latency)
        return found

    def _log_ratios(self, scenario: str, controller: str) -> list[float]:
        metric = SCORE_METRIC[self.scores[scenario]]
        reference = self.values(scenario, self.reference, metric)
        return log_ratios(self.values(scenario, controller, metric), reference)

    def _summary(
        self, scenario: str, controller: str, logs: list[float], over: list[str] | None = None
    ) -> Summary:
        scenarios = over or [scenario]
        metric = SCORE_METRIC[self.scores[scenarios[0]]]
        means = [self.mean(name, controller, metric) for name in scenarios]
        return Summary(
            scenario,
            controller,
            metric,
            means[0] if over is None else float(np.exp(np.mean(np.log(means)))),
            mean_ratio(logs),
            None if over else self.cell(scenario, controller)[0].window,
            *(self.total(scenarios, controller, count) for count in _COUNTS),
        )


def save(evaluation: Evaluation, path: Path) -> None:
    """Write `evaluation.json`: the fields of `Evaluation`, and `summary` for those who read only that."""
    data = to_dict(evaluation) | {"summary": [_flat(s) for s in evaluation.summaries.values()]}
    text = json.dumps(_without_nan(data), separators=(",", ":"), allow_nan=False)
    try:
        write_atomically(path, text + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def load(path: Path) -> Evaluation:
    """Read `evaluation.json`; ConfigError says what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:  # not JSON, or not UTF-8
        raise ConfigError(f"{path}: not JSON") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not an evaluation")
    data.pop("summary", None)
    evaluation = build(Evaluation, data, source=str(path))
    _check_complete(evaluation, str(path))
    return evaluation


def _check_complete(evaluation: Evaluation, source: str) -> None:
    """Raise ConfigError unless every controller, the reference too, ran every scenario with every seed."""
    if not evaluation.rows:
        raise ConfigError(f"{source}: no rows")
    if evaluation.reference not in evaluation.controllers:
        raise ConfigError(f"{source}: no rows of the reference {evaluation.reference}")
    for scenario in evaluation.scores:
        for controller in evaluation.controllers:
            ran = [row.seed for row in evaluation._cells.get((scenario, controller), [])]
            if ran != sorted(evaluation.seeds):
                raise ConfigError(f"{source}: {controller} in {scenario} has seeds {ran}")
    for index, row in enumerate(evaluation.rows):
        for metric in (SCORE_METRIC[row.score], *_COUNTS):
            if row.metrics.get(metric) is None:
                raise ConfigError(f"{source}: rows.{index}.metrics.{metric}: missing")


def _flat(summary: Summary) -> dict[str, Any]:
    return to_dict(summary) | {
        "ratio": summary.ratio.estimate,
        "low": summary.ratio.low,
        "high": summary.ratio.high,
    }


def _without_nan(data: Any) -> Any:
    """Return plain data with None for what is not finite, which JSON cannot say."""
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
