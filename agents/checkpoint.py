"""A stopped run on disk: the learner's weights, and the counters that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents.train_config import TrainConfig, run_hash
from dsd_gym.config import ConfigError
from dsd_gym.files import write_atomically

WEIGHTS, STATE = "checkpoint.zip", "checkpoint.json"


def write_state(folder: Path, train_config: TrainConfig, **counters: Any) -> None:
    """Write the counters; call it after the weights are in place."""
    of_run = {"run_hash": run_hash(train_config), "of_decisions": train_config.decisions}
    write_atomically(folder / STATE, json.dumps({**of_run, **counters}))


def read_state(folder: Path, train_config: TrainConfig) -> dict[str, Any]:
    """Return the counters of the folder's checkpoint; ConfigError if there is none, or it is of another run."""
    state = _state(folder)
    if state is None or not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{folder}: no checkpoint to resume from")
    if state.get("run_hash") != run_hash(train_config):
        told = "its checkpoint is of another config, or the scenario has changed since"
        raise ConfigError(f"{folder}: {told}: give the same ones, or another name=...")
    return state


def unfinished(folder: Path) -> bool:
    """Return whether the folder holds a run, of whatever config, that was stopped before its end."""
    state = _state(folder)
    return state is not None and bool(state["decisions"] < state["of_decisions"])


def decisions_done(folder: Path) -> int:
    """Return how far the folder's checkpoint has come; 0 where there is none."""
    return int((_state(folder) or {"decisions": 0})["decisions"])


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and {"decisions", "of_decisions"} <= state.keys() else None
