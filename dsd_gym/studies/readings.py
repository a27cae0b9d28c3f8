"""What is read off a study's lines: where two cross, how far one stays good enough, which window is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dsd_gym.comparison.statistics import MIN_SEEDS, interval
from dsd_gym.studies.study import Line, Reading, Study, better_when_less, bounds, lines
from dsd_gym.studies.sweep import Results

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value and its 95 % interval over seeds; bounds are nan where there are too few seeds."""

    value: float
    low: float
    high: float


class Read(NamedTuple):
    """One value read off: its panel, its variant's name, and where it lies; `beyond` the axis it is a bound."""

    panel: int
    name: str
    at: Estimate
    beyond: str
    """"" or "<" (before the first place) or ">" (past the last)."""


class BestWindow(NamedTuple):
    """The best fixed window at one place, and those that are as good within the band."""

    panel: int
    x: int
    variant: int
    window: int
    as_good: tuple[int, ...]
    value: float


def estimate(values: Sequence[float], metric: str) -> Estimate:
    """Return the mean of a metric, one value a seed, with its interval (`comparison.statistics.mean_ratio`)."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < MIN_SEEDS or math.isnan(mean):
        return Estimate(mean, math.nan, math.nan)
    resampled = array[_drawn(len(array))].mean(axis=1)
    low, high = interval(mean, resampled, float(array.std()) / math.sqrt(len(array)), len(array))
    least, most = bounds(metric)
    return Estimate(mean, max(low, least), min(high, most))


def crossovers(study: Study, results: Results) -> list[Read]:
    """Return where the second line of each variant becomes better than its first."""
    found = []
    for panel in range(_panels(study)):
        for index, variant in enumerate(study.variants):
            first, second = (line for line in lines(study) if line.variant == index)
            pair = [_values(study, results, panel, line, study.read_metric) for line in (first, second)]
            sign = 1.0 if better_when_less(study.read_metric) else -1.0

            def crossing(seeds: np.ndarray, pair: list[np.ndarray] = pair, sign: float = sign) -> float:
                gap = sign * np.log(pair[1][:, seeds].mean(axis=1) / pair[0][:, seeds].mean(axis=1))
                return first_crossing(study.x.places, gap.tolist(), study.x.log)

            found.append(_read(study, panel, variant.name or f"{first.name}, {second.name}", crossing))
    return found


def capacities(study: Study, results: Results) -> list[Read]:
    """Return how far along the axis each line keeps the metric at or above the level."""
    reading = study.reading or Reading("capacity")
    found = []
    for panel in range(_panels(study)):
        for line in lines(study):
            values = _values(study, results, panel, line, study.read_metric)

            def reach(seeds: np.ndarray, values: np.ndarray = values) -> float:
                gap = (reading.level - values[:, seeds].mean(axis=1)).tolist()
                # above the level from the start on: the crossing is where it falls under it
                return first_crossing(study.x.places, [-g for g in gap], study.x.log)

            found.append(_read(study, panel, line.name, reach))
    return found


def best_windows(study: Study, results: Results) -> list[BestWindow]:
    """Return the best `static:K` at each place, for each variant."""
    reading, metric = study.reading or Reading("best_window"), study.read_metric
    sign = 1.0 if better_when_less(metric) else -1.0
    found = []
    for panel in range(_panels(study)):
        for x in range(len(study.x.values)):
            for variant in range(len(study.variants)):
                means = {
                    int(line.controller.removeprefix("static:")): float(
                        np.mean([seed[metric] for seed in results[panel, x, line]])
                    )
                    for line in lines(study)
                    if line.variant == variant and line.controller.startswith("static:")
                }
                best = min(means, key=lambda window: sign * means[window])
                limit = sign * means[best] + reading.band * abs(means[best])
                as_good = tuple(sorted(window for window, value in means.items() if sign * value <= limit))
                found.append(BestWindow(panel, x, variant, best, as_good, means[best]))
    return found


def first_crossing(places: Sequence[float], gaps: Sequence[float], log: bool) -> float:
    """Return where the gap first falls from positive to zero or less: -inf if it begins so, inf if it never does."""
    if gaps[0] <= 0.0:
        return -math.inf
    scale: Callable[[float], float] = math.log if log else float
    back: Callable[[float], float] = math.exp if log else float
    for (x0, g0), (x1, g1) in pairwise(zip(places, gaps, strict=True)):
        if g1 <= 0.0:
            return back(scale(x0) + (scale(x1) - scale(x0)) * g0 / (g0 - g1))
    return math.inf


def _read(study: Study, panel: int, name: str, at: Callable[[np.ndarray], float]) -> Read:
    """Return what `at` finds on all seeds, with the interval of what it finds on resampled ones."""
    low_end, high_end = min(study.x.places), max(study.x.places)
    everyone = np.arange(study.seeds)
    value = at(everyone)
    beyond = "<" if value == -math.inf else ">" if value == math.inf else ""
    clipped = min(max(value, low_end), high_end)
    if study.seeds < MIN_SEEDS:
        return Read(panel, name, Estimate(clipped, math.nan, math.nan), beyond)
    found = np.clip([at(drawn) for drawn in _drawn(study.seeds)], low_end, high_end)
    low, high = interval(clipped, found, float(found.std()), study.seeds)
    return Read(panel, name, Estimate(clipped, max(low, low_end), min(high, high_end)), beyond)


def _drawn(seeds: int) -> np.ndarray:
    return np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))


def _panels(study: Study) -> int:
    return len(study.panels.values) if study.panels else 1


def _values(study: Study, results: Results, panel: int, line: Line, metric: str) -> np.ndarray:
    """Return a metric along the axis, shape (places, seeds)."""
    return np.array([[seed[metric] for seed in results[panel, x, line]] for x in range(len(study.x.values))])
