"""Scenarios by name, path or folder, with dotted overrides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dsd_gym import config
from dsd_gym.config import ConfigError
from dsd_gym.reference import check_hardware
from dsd_gym.scenario import Scenario

SCENARIO_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "scenarios"


def scenario_path(name: str) -> Path:
    """Return the file of a name under configs/scenarios (`held_out/lan_lab`) or of a path; ConfigError if neither."""
    for path in (Path(name), SCENARIO_FOLDER / f"{name}.yaml", SCENARIO_FOLDER / name):
        if path.is_file():
            return path
    known = sorted(str(p.relative_to(SCENARIO_FOLDER).with_suffix("")) for p in SCENARIO_FOLDER.rglob("*.yaml"))
    raise ConfigError(f"{name}: no such scenario{config.did_you_mean(name, known)}")


def load_scenario(name: str | Path, overrides: dict[str, Any] | None = None) -> Scenario:
    """Return the scenario of a name or path with dotted `overrides` applied; ConfigError names file and key."""
    path = scenario_path(str(name))
    data = {"name": path.stem, **config.read_yaml(path)}
    return scenario_from(data, overrides, source=str(name))


def load_scenarios(names: Sequence[str], overrides: dict[str, Any]) -> list[Scenario]:
    """Return the scenarios of names, paths and folders; ConfigError names what is not there."""
    found: list[Scenario] = []
    for name in names:
        folder = next((path for path in (Path(name), SCENARIO_FOLDER / name) if path.is_dir()), None)
        files = sorted(folder.glob("*.yaml")) if folder else [name]
        if not files:
            raise ConfigError(f"{folder}: no scenarios (*.yaml) in this folder")
        found += [load_scenario(file, overrides) for file in files]
    return found


def scenario_from(data: dict[str, Any], overrides: dict[str, Any] | None = None, *, source: str) -> Scenario:
    """Return a validated scenario from plain data; its hardware names are looked up too, so that errors come early."""
    merged = config.apply_overrides(data, overrides or {}, defaults=_defaults())
    scenario = config.build(Scenario, merged, source=source)
    check_hardware(scenario, source)
    return scenario


@cache
def _defaults() -> dict[str, Any]:
    return config.to_dict(Scenario())
