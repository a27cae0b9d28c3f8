"""A stopped run on disk: the learner's weights, and the counters that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents.train_config import TrainConfig
from dsd_gym import config
from dsd_gym.config import ConfigError
from dsd_gym.files import write_atomically

WEIGHTS, STATE = "checkpoint.zip", "checkpoint.json"


def write_state(folder: Path, train_config: TrainConfig, **counters: Any) -> None:
    """Write the counters; call it after the weights are in place."""
    write_atomically(folder / STATE, json.dumps({"config_hash": config.config_hash(train_config), **counters}))


def read_state(folder: Path, train_config: TrainConfig) -> dict[str, Any]:
    """Return the counters of the folder's checkpoint; ConfigError if there is none, or it is of another config."""
    if not (folder / WEIGHTS).is_file() or not (folder / STATE).is_file():
        raise ConfigError(f"{folder}: no checkpoint to resume from")
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    if state["config_hash"] != config.config_hash(train_config):
        raise ConfigError(f"{folder}: its checkpoint is of another config: give the same one, or another name=...")
    return state


def unfinished(folder: Path, train_config: TrainConfig) -> bool:
    """Return whether the folder holds a run of this config that was stopped before its end."""
    try:
        return bool(read_state(folder, train_config)["decisions"] < train_config.decisions)
    except ConfigError:
        return False
