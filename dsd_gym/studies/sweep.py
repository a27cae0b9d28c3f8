"""Run a study's cells over processes, keep each as it ends, and go on from there when interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from dsd_gym.comparison.cells import Cell, MakeController, controller_digest, scenario_digest
from dsd_gym.comparison.compare import Progress
from dsd_gym.comparison.evaluation import Row
from dsd_gym.comparison.groups import grouped, run_group
from dsd_gym.comparison.parallel import run_all
from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.metrics import metric_names
from dsd_gym.scenario import Scenario
from dsd_gym.studies.study import Line, Study, not_a_number, points

Results = dict[tuple[int, int, Line], list[dict[str, float]]]
"""(panel, place along the axis, line) -> the metrics of each seed."""


def sweep(
    study: Study,
    make_controller: MakeController,
    kept: Path,
    jobs: int,
    progress: Progress | None = None,
) -> Results:
    """Simulate every point with every seed; `kept` holds the cells that earlier calls have finished."""
    done = _read(kept)
    cells: dict[str, Cell] = {}
    places: list[tuple[tuple[int, int, Line], list[str]]] = []
    for panel, x, line, scenario in points(study):
        make_controller(line.controller, scenario.max_window)  # a wrong spec is found before anything long begins
        _check_metrics(study, scenario)
        keys = []
        for seed in range(study.seeds):
            cell = Cell(scenario, line.controller, seed, False, make_controller)
            keys.append(_key(cell))
            cells[keys[-1]] = cell
        places.append(((panel, x, line), keys))
    missing = {id(cell): key for key, cell in cells.items() if key not in done}
    groups = grouped([cell for cell in cells.values() if id(cell) in missing], jobs)
    _tell(progress, len(cells) - len(missing), len(cells))
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a", encoding="utf-8") as file:
        for index, rows in run_all(run_group, groups, jobs):
            for cell, row in zip(groups[index], rows, strict=True):
                key = missing.pop(id(cell))
                done[key] = _metrics(row)
                file.write(json.dumps({"cell": key, "metrics": done[key]}) + "\n")
            file.flush()
            _tell(progress, len(cells) - len(missing), len(cells))
    return {place: [done[key] for key in keys] for place, keys in places}


def _check_metrics(study: Study, scenario: Scenario) -> None:
    known = metric_names(kind.name for kind in scenario.classes)
    for metric in (*study.metrics, study.read_metric):
        if metric not in known:
            raise ConfigError(f"{study.name}: metrics: no {metric}{did_you_mean(metric, known)}")


def _metrics(row: Row) -> dict[str, float]:
    return {name: not_a_number(value) for name, value in row.metrics.items()}


def _key(cell: Cell) -> str:
    """Return what a cell's result depends on, as a digest."""
    parts = (scenario_digest(cell.scenario), controller_digest(cell.controller), cell.seed)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _read(kept: Path) -> dict[str, dict[str, float]]:
    """Return the finished cells; lines that were cut off or damaged are left out."""
    found: dict[str, dict[str, float]] = {}
    lines: Sequence[str] = kept.read_text(encoding="utf-8", errors="replace").splitlines() if kept.is_file() else ()
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["cell"]] = {name: float(value) for name, value in entry["metrics"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)
