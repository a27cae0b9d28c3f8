"""Labels on disk, a file for each deployment, so that making them can stop at any time and go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.labels import Labelled, make_label
from agents.train_config import AwcMlpConfig, scenario_ranges
from dsd_gym import config
from dsd_gym.comparison.parallel import cpu_count, run_all
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.config import ConfigError
from dsd_gym.family import load_scenario_or_family
from dsd_gym.files import write_atomically
from policies.window_inputs import WindowInputs

FOLDER, STATE = "labels", "made_of.json"


@dataclass(frozen=True)
class LabelStore:
    """The labels of one run, under its folder."""

    folder: Path

    def made(self) -> set[int]:
        """Return the numbers of the deployments labelled so far."""
        return {int(path.stem) for path in self.folder.glob("[0-9]*.json")}

    def unfinished(self) -> bool:
        """Return whether labels lie here, of whatever config, and fewer than were wanted."""
        state = self._state()
        return state is not None and len(self.made()) < state["scenarios"]

    def open(self, chosen: AwcMlpConfig, resume: bool) -> None:
        """Begin, without what lay here; or go on, if what lies here is of the same config (ConfigError if not)."""
        made_of, state = _hash(chosen), self._state()
        if not resume:
            for path in self.folder.glob("[0-9]*.json"):
                path.unlink()
        elif state is None:
            raise ConfigError(f"{self.folder}: no labels to go on from")
        elif state["made_of"] != made_of:
            raise ConfigError(f"{self.folder}: labels of another config: give the same one, or another name=...")
        state = {"made_of": made_of, "scenarios": chosen.labels.scenarios}
        write_atomically(self.folder / STATE, json.dumps(state))

    def write(self, index: int, labelled: Labelled) -> None:
        """Keep the label of deployment number `index`."""
        data = {"label": labelled.label, "costs": labelled.costs, "rows": labelled.rows}
        write_atomically(self.folder / f"{index:05}.json", json.dumps(data, separators=(",", ":")))

    def read(self, index: int) -> Labelled:
        """Return the label of deployment number `index`; ConfigError if its file is damaged."""
        path = self.folder / f"{index:05}.json"
        try:
            data = json.loads(path.read_text())
            costs = {int(window): float(cost) for window, cost in data["costs"].items()}
            return Labelled(costs, tuple(WindowInputs(*map(float, row)) for row in data["rows"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{path}: not a label; delete it and add --resume to make it again") from None

    def _state(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads((self.folder / STATE).read_text())
        except (OSError, ValueError):
            return None
        return state


def make_labels(chosen: AwcMlpConfig, store: LabelStore) -> Sequence[Labelled]:
    """Make the labels that are missing, over processes, and return all."""
    wanted = range(chosen.labels.scenarios)
    missing = sorted(set(wanted) - store.made())
    with progress_bar() as progress:
        for done, (place, labelled) in enumerate(run_all(partial(_label, chosen), missing, cpu_count()), 1):
            store.write(missing[place], labelled)
            if progress:
                progress(len(wanted) - len(missing) + done, len(wanted))
    return [store.read(index) for index in wanted]


def _label(chosen: AwcMlpConfig, index: int) -> Labelled:
    source = load_scenario_or_family(chosen.scenario, chosen.overrides)
    return make_label(source, chosen.seed, index, chosen.labels)


def _hash(chosen: AwcMlpConfig) -> str:
    """Return a digest of the settings that a label depends on (not how many there are, nor the code that makes it)."""
    settings = config.to_dict(replace(chosen.labels, scenarios=2, held_out=0.5))
    text = json.dumps([scenario_ranges(chosen), chosen.overrides, chosen.seed, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
