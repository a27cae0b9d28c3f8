"""A run of the supervised kind: labels, a network fitted to them, and how well it does on deployments held out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.label_store import FOLDER, LabelStore, make_labels
from agents.labels import Labelled
from agents.train_config import AwcMlpConfig, longest_window, scenario_ranges
from dsd_gym import __version__, config
from dsd_gym.config import ConfigError
from dsd_gym.files import write_atomically
from policies import REGRESSOR, Layer, Policy, PolicyHeader
from policies.window_inputs import WINDOW_INPUTS, WindowInputs, scale_inputs

Array = NDArray[np.float32]
CLOUD_LABEL = 1
REFERENCE_WINDOW = 4


@dataclass(frozen=True)
class Rows:
    """Inputs and what is to be predicted from them, a row for each moment, from some deployments."""

    deployments: tuple[Labelled, ...]
    raw: NDArray[np.float64]
    """(n, 5), in the inputs' own units."""
    scaled: Array
    windows: Array
    """(n,): the label of each row's deployment."""
    owner: NDArray[np.intp]
    """(n,): the index of that deployment."""

    @classmethod
    def of(cls, deployments: Sequence[Labelled]) -> Rows:
        """Return the rows of these deployments."""
        rows = [row for labelled in deployments for row in labelled.rows]
        counts = [len(labelled.rows) for labelled in deployments]
        windows = np.repeat([float(labelled.label) for labelled in deployments], counts)
        return cls(
            tuple(deployments),
            np.array(rows),
            np.array([scale_inputs(row) for row in rows]),
            windows.astype(np.float32),
            np.repeat(np.arange(len(deployments)), counts),
        )

    def regret(self, predicted: Array) -> float:
        """Return the mean of (cost of the fixed window predicted / cost of the best) - 1.

        It is taken over the rows of pairs that have had a round at the edge: all but their first in service.
        """
        named = np.clip(np.rint(predicted), CLOUD_LABEL, None).astype(int)
        seasoned = self.raw[:, WindowInputs._fields.index("tpot_ms")] > 0.0
        pairs = zip(self.owner[seasoned], named[seasoned], strict=True)
        return float(np.mean([_relative_cost(self.deployments[index], window) for index, window in pairs])) - 1.0


def train(chosen: AwcMlpConfig, folder: Path, resume: bool) -> Callable[[str, dict[str, Any] | None], Policy]:
    """Make the labels, fit the network, and return what exports it, given a command and an evaluation."""
    store = LabelStore(folder / FOLDER)
    store.open(chosen, resume)
    try:
        labelled = make_labels(chosen, store)
    except KeyboardInterrupt:
        print(f"\nstopped at {len(store.made())} labels; go on with --resume", file=sys.stderr)
        raise
    rows, held_out = split(labelled, chosen.labels.held_out)
    layers, told = _fitted(rows, held_out, chosen, folder / "logs" / "awc_mlp.csv")
    print(described(labelled, told))
    return partial(_policy, layers, rows, chosen, told)


def split(labelled: Sequence[Labelled], share: float) -> tuple[Rows, Rows]:
    """Return the rows to learn from and those of the last deployments, a `share` of all, held out."""
    first = len(labelled) - max(1, round(share * len(labelled)))
    if first < 1:
        raise ConfigError(f"labels: {len(labelled)} deployments leave none to learn from")
    return Rows.of(labelled[:first]), Rows.of(labelled[first:])


def described(labelled: Sequence[Labelled], told: dict[str, float]) -> str:
    """Return what the labels are and how well they are predicted."""
    at_edge = [one.label for one in labelled if one.best_window]
    cloud_share = 1.0 - len(at_edge) / len(labelled)
    mean = np.mean(at_edge) if at_edge else np.nan
    return (
        f"{len(labelled)} deployments: cloud decoding is best in {cloud_share:.0%}, a window of {mean:.1f} on average "
        f"in the others.\nThose held out: L1 {told['l1']:.2f} windows (training {told['training_l1']:.2f}). After a "
        f"round at the edge, the fixed window predicted costs {told['regret']:.1%} more than the best; window "
        f"{REFERENCE_WINDOW} costs {told['static_regret']:.1%} more, cloud decoding {told['cloud_regret']:.1%}."
    )


def _fitted(rows: Rows, held_out: Rows, chosen: AwcMlpConfig, log: Path) -> tuple[tuple[Layer, ...], dict[str, float]]:
    """Fit the network, log every epoch, and return its layers and the figures of the last."""
    from agents.awc_mlp_network import ResidualRegressor, fit, predict

    lines = ["epoch,training_l1,held_out_l1"]
    last: dict[str, float] = {}

    def watch(epoch: int, training_l1: float, network: ResidualRegressor) -> None:
        last["training_l1"] = training_l1
        last["l1"] = float(np.abs(predict(network, held_out.scaled) - held_out.windows).mean())
        lines.append(f"{epoch},{training_l1:.4f},{last['l1']:.4f}")
        if sys.stderr.isatty():
            print(f"\repoch {epoch}: L1 {training_l1:.3f}, held out {last['l1']:.3f}", end="", file=sys.stderr)

    network = fit(rows.scaled, rows.windows, chosen.regressor, chosen.seed, watch)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    write_atomically(log, "\n".join(lines) + "\n")
    last["regret"] = held_out.regret(predict(network, held_out.scaled))
    last["static_regret"] = held_out.regret(np.full_like(held_out.windows, REFERENCE_WINDOW))
    last["cloud_regret"] = held_out.regret(np.full_like(held_out.windows, CLOUD_LABEL))
    return network.layers(), last


def _policy(
    layers: tuple[Layer, ...],
    rows: Rows,
    chosen: AwcMlpConfig,
    told: dict[str, float],
    command: str,
    evaluation: dict[str, Any] | None = None,
) -> Policy:
    lows, highs = rows.raw.min(axis=0).tolist(), rows.raw.max(axis=0).tolist()
    header = PolicyHeader(
        kind=REGRESSOR,
        max_window=longest_window(chosen),
        activation="silu",
        feature_names=WindowInputs._fields,
        feature_scaling={name: (feature.high, feature.knee or 0.0) for name, feature in WINDOW_INPUTS.items()},
        feature_ranges=dict(zip(WindowInputs._fields, zip(lows, highs, strict=True), strict=True)),
        scenario_ranges=scenario_ranges(chosen),
        training_config=config.to_dict(chosen),
        config_hash=config.config_hash(chosen),
        seed=chosen.seed,
        package_version=__version__,
        command=command,
        evaluation={**(evaluation or {}), "held_out_labels": told},
    )
    return Policy(header, layers)


def _relative_cost(labelled: Labelled, window: int) -> float:
    """Return the cost of a fixed window (1: cloud mode) relative to the best."""
    costs = labelled.costs
    return costs[0 if window <= CLOUD_LABEL else min(window, max(costs))] / min(costs.values())
