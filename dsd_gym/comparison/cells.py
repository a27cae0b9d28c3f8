"""One cell of a comparison, a scenario under a controller with a seed, and the cells already run before."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dsd_gym
from dsd_gym.comparison import series
from dsd_gym.comparison.evaluation import Row
from dsd_gym.comparison.series import binned
from dsd_gym.config import ConfigError, build, config_hash, to_dict
from dsd_gym.controller import Controller
from dsd_gym.files import write_atomically
from dsd_gym.hardware import HARDWARE_FILE
from dsd_gym.metrics import request_latencies, summarise
from dsd_gym.records import Records
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate
from dsd_gym.staircase import STAIRCASE_FILE

MakeController = Callable[[str, int], Controller]
"""`agents.make_controller`: a spec and the longest window in, a fresh controller out."""

QUANTILES = 101


@dataclass(frozen=True)
class Cell:
    """What to run. `make_controller` is imported by name in another process."""

    scenario: Scenario
    controller: str
    seed: int
    with_series: bool
    make_controller: MakeController


def run(cell: Cell) -> Row:
    """Simulate a cell with a fresh controller and return what came of it."""
    controller = cell.make_controller(cell.controller, cell.scenario.max_window)
    return row_of(cell, simulate(cell.scenario, controller, cell.seed))


def row_of(cell: Cell, records: Records) -> Row:
    """Return what came of a cell; ConfigError where no request was scored."""
    try:
        metrics = summarise(records)
    except ValueError as error:
        cap = cell.scenario.max_requests
        hint = f"; the cap of {cap} requests may end before the warm-up does" if cap else ""
        raise ConfigError(f"{cell.scenario.name}, seed {cell.seed}: {error}{hint}") from None
    return Row(
        cell.scenario.name,
        cell.controller,
        cell.seed,
        cell.scenario.score,
        len(records.rounds),
        {name: None if math.isnan(value) else value for name, value in metrics.items()},
        _tpot_quantiles(records),
        binned(records) if cell.with_series else None,
    )


def _tpot_quantiles(records: Records) -> tuple[float, ...]:
    tpot_ms = request_latencies(records).tpot_ms
    if not len(tpot_ms):
        return ()
    return tuple(float(f"{ms:.4g}") for ms in np.quantile(tpot_ms, np.linspace(0.0, 1.0, QUANTILES)))


class CellCache:
    """Rows of fixed windows on disk, a file each; a changed scenario, simulator or hardware figure misses."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, cell: Cell) -> Row | None:
        """Return the row of an earlier run, None where there is none that can be read."""
        path = self._path(cell)
        if path is None:
            return None
        try:
            return build(Row, json.loads(path.read_text(encoding="utf-8")), source=str(path))
        except (OSError, ValueError):
            return None

    def put(self, cell: Cell, row: Row) -> None:
        """Keep a row; a folder that cannot be written keeps none."""
        if path := self._path(cell):
            try:
                write_atomically(path, json.dumps(to_dict(row), separators=(",", ":")))
            except OSError:
                return

    def _path(self, cell: Cell) -> Path | None:
        if self._folder is None or not cell.controller.startswith("static:"):
            return None
        key = scenario_digest(cell.scenario), cell.with_series
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        window = cell.controller.removeprefix("static:")
        return (
            self._folder
            / f"{cell.scenario.name.replace('/', '_')}-{digest}"
            / f"seed{cell.seed}-window{window}.json"
        )


def scenario_digest(scenario: Scenario) -> str:
    """Return a digest of all that a simulation's result depends on but controller and seed: the files it reads too."""
    files = [_file_hash(path) for path in _files_of(to_dict(scenario))]
    return hashlib.sha256(repr((config_hash(scenario), simulator_hash(), files)).encode()).hexdigest()


def _files_of(data: Any) -> Iterator[str]:
    """Yield the traces and recordings that a scenario names, wherever in it."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if key in ("trace", "file") and isinstance(value, str):
            yield value
        else:
            yield from _files_of(value)


@cache
def simulator_hash() -> str:
    """Return a digest of the package's version, the simulator's source and the figures of the hardware."""
    root = Path(dsd_gym.__file__).parent
    apart = {"comparison", "studies", "explain"}
    simulated = [file for file in root.rglob("*.py") if not apart.intersection(file.relative_to(root).parts)]
    files = [*sorted(simulated), Path(__file__), Path(series.__file__), HARDWARE_FILE, STAIRCASE_FILE]
    digest = hashlib.sha256(dsd_gym.__version__.encode())
    for file in files:
        digest.update(file.relative_to(root.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def controller_digest(spec: str) -> str:
    """Return a digest of all that a controller's decisions depend on: its source, and the file that it names."""
    file = Path(spec.removeprefix("table:"))
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return hashlib.sha256(repr((spec, content, agents_hash())).encode()).hexdigest()


@cache
def agents_hash() -> str:
    """Return a digest of the controllers' and the learner's source, and of the files that they go by."""
    root = Path(dsd_gym.__file__).parents[1]
    digest = hashlib.sha256()
    kinds = ("agents/*.py", "policies/*.py", "policies/awc_mlp.safetensors", "configs/tables/*.yaml")
    for file in sorted(file for kind in kinds for file in root.glob(kind)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _file_hash(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError:
        return ""
