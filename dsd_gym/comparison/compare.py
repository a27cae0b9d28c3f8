"""The comparison: controllers x scenarios x seeds on the same luck, and the best fixed window by a sweep.

    evaluation = compare(scenarios, ["static:4", "static:best", "awc"], range(5), agents.make_controller)

Controllers are made by a function that is handed in: this package knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsd_gym import __version__
from dsd_gym.comparison.cells import Cell, CellCache, MakeController
from dsd_gym.comparison.evaluation import SCORE_METRIC, Evaluation, Row, WindowMap
from dsd_gym.comparison.groups import grouped, run_group
from dsd_gym.comparison.parallel import cpu_count, run_all
from dsd_gym.comparison.versions import versions
from dsd_gym.comparison.window_map import window_maps
from dsd_gym.config import ConfigError, to_dict
from dsd_gym.scenario import Scenario

STATIC_BEST = "static:best"
DEFAULT_REFERENCE = "static:4"

Key = tuple[str, str, int]
Progress = Callable[[int, int], None]


def compare(
    scenarios: Sequence[Scenario],
    controllers: Sequence[str],
    seeds: Iterable[int],
    make_controller: MakeController,
    *,
    reference: str | None = None,
    jobs: int | None = None,
    ray_address: str | None = None,
    max_requests: int | None = None,
    cache_folder: Path | None = None,
    map_controllers: Sequence[str] = (),
    command: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Run every controller in every scenario with every seed and return the rows.

    Args:
        controllers: specs; `static:best` is the fixed window, 0 to max_window, that does best in hindsight.
        make_controller: called in worker processes, so a function of a module.
        reference: what differences are taken against, run too if `controllers` lacks it; None is `static:4`
            if that is among them, else the first.
        jobs: processes; None is one for each processor.
        ray_address: of a Ray cluster that does the work instead; see `ray_workers`.
        max_requests: cap on the requests of each cell, the same for all controllers.
        cache_folder: where rows of fixed windows are kept from run to run; None keeps none.
        map_controllers: those whose windows are mapped over RTT x acceptance.
        progress: called with the cells done and in all.

    Raises:
        ConfigError: nothing to compare, two scenarios of one name, an unknown controller.
    """
    seeds = tuple(seeds)
    controllers, reference = _with_reference(controllers, reference)
    scenarios = checked(scenarios, controllers, seeds, make_controller, max_requests)
    cells = {
        (scenario.name, spec, seed): Cell(scenario, spec, seed, seed == seeds[0], make_controller)
        for scenario in scenarios
        for spec in _to_run(controllers, scenario)
        for seed in seeds
    }
    rows = _run(cells, jobs or cpu_count(), ray_address, CellCache(cache_folder), progress or _silent)
    return Evaluation(
        command,
        __version__,
        reference,
        seeds,
        tuple(_chosen(rows, scenarios, controllers, seeds)),
        max_requests,
        _maps(map_controllers, scenarios, make_controller),
        {scenario.name: to_dict(scenario) for scenario in scenarios},
        versions(),
    )


def _capped(scenario: Scenario, max_requests: int | None) -> Scenario:
    """Return the scenario with at most `max_requests`; a lower cap of its own stands."""
    if max_requests is not None and scenario.score == "throughput":
        raise ConfigError(f"{scenario.name}: a cap on requests would dilute the throughput it is scored by")
    limits = [limit for limit in (scenario.max_requests, max_requests) if limit is not None]
    return replace(scenario, max_requests=min(limits, default=None))


def _with_reference(controllers: Sequence[str], reference: str | None) -> tuple[list[str], str]:
    specs = list(dict.fromkeys(controllers))
    if not specs:
        raise ConfigError("no controllers to compare")
    if reference is None:
        reference = DEFAULT_REFERENCE if DEFAULT_REFERENCE in specs else specs[0]
    return (specs if reference in specs else [reference, *specs]), reference


def checked(
    scenarios: Sequence[Scenario],
    controllers: Sequence[str],
    seeds: Sequence[int],
    make: MakeController,
    max_requests: int | None,
) -> list[Scenario]:
    """Return the scenarios as they are compared; ConfigError for what is wrong, before anything long begins."""
    if not scenarios or not seeds:
        raise ConfigError(f"no {'seeds' if scenarios else 'scenarios'} to compare with")
    names = [scenario.name for scenario in scenarios]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two scenarios are named {name}")
    for max_window in {scenario.max_window for scenario in scenarios}:
        for spec in controllers:
            if spec != STATIC_BEST:
                make(spec, max_window)
    return [_capped(scenario, max_requests) for scenario in scenarios]


def _to_run(controllers: Sequence[str], scenario: Scenario) -> list[str]:
    """Return the specs to run, the sweep's in place of `static:best`."""
    sweep = _sweep(scenario) if STATIC_BEST in controllers else []
    return list(dict.fromkeys([*(spec for spec in controllers if spec != STATIC_BEST), *sweep]))


def _sweep(scenario: Scenario) -> list[str]:
    return [f"static:{window}" for window in range(scenario.max_window + 1)]


def _run(
    cells: dict[Key, Cell], jobs: int, ray_address: str | None, cache: CellCache, progress: Progress
) -> dict[Key, Row]:
    rows = {key: row for key, cell in cells.items() if (row := cache.get(cell)) is not None}
    groups = grouped([cell for key, cell in cells.items() if key not in rows], jobs)
    progress(len(rows), len(cells))
    for index, found in run_all(run_group, groups, jobs, ray_address):
        for cell, row in zip(groups[index], found, strict=True):
            rows[row.scenario, row.controller, row.seed] = row
            cache.put(cell, row)
        progress(len(rows), len(cells))
    return rows


def _silent(done: int, total: int) -> None:
    """Show no progress."""


def _chosen(
    rows: dict[Key, Row], scenarios: Sequence[Scenario], controllers: Sequence[str], seeds: Sequence[int]
) -> Iterable[Row]:
    """Yield the rows asked for, in order: of the sweep, the best window's, under the name `static:best`."""
    for scenario in scenarios:
        for spec in controllers:
            if spec == STATIC_BEST:
                window = best_window(rows, scenario, seeds)
                for seed in seeds:
                    row = rows[scenario.name, f"static:{window}", seed]
                    yield replace(row, controller=STATIC_BEST, window=window)
            else:
                yield from (rows[scenario.name, spec, seed] for seed in seeds)


def best_window(rows: dict[Key, Row], scenario: Scenario, seeds: Sequence[int]) -> int:
    """Return the fixed window that does best: least normalised latency or, so scored, most throughput."""
    metric = SCORE_METRIC[scenario.score]
    sign = -1.0 if scenario.score == "throughput" else 1.0

    def cost(window: int) -> float:
        found = [rows[scenario.name, f"static:{window}", seed].metrics[metric] for seed in seeds]
        return sign * float(np.mean([np.nan if value is None else value for value in found]))

    return min(range(scenario.max_window + 1), key=cost)


def _maps(
    controllers: Sequence[str], scenarios: Sequence[Scenario], make: MakeController
) -> tuple[WindowMap, ...]:
    max_window = min(scenario.max_window for scenario in scenarios)
    return tuple(found for spec in controllers for found in window_maps(spec, make, max_window))
