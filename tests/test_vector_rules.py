"""Rules applied to many observations: what a controller decides for each one alone."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_controller
from dsd_gym.observation import FEATURES, Observation

MAX_WINDOW = 12
FLAGS = [place for place, feature in enumerate(FEATURES.values()) if feature.unit == "flag"]
COUNTS = [place for place, feature in enumerate(FEATURES.values()) if feature.unit in ("tokens", "requests")]


def observations(count: int) -> np.ndarray:
    """Return rows of features in their own units, spread over what each may be."""
    random = np.random.default_rng(0)
    highs = np.array([min(feature.high, 300.0) for feature in FEATURES.values()])
    rows = highs * random.random((count, len(FEATURES))) ** 3
    rows[:, FLAGS] = random.random((count, len(FLAGS))) < 0.5
    rows[:, COUNTS] = np.rint(rows[:, COUNTS])
    return rows


@pytest.mark.parametrize(
    "spec",
    ["static:3", "heuristic", "leviathan", "specdec", "specdec:published", "turbospec", "table:vllm", "table:mlc"],
)
def test_many_at_once_are_decided_as_each_alone(spec: str) -> None:
    rows, controller = observations(400), make_controller(spec, MAX_WINDOW)
    windows, thresholds = controller.decide_many(rows)  # type: ignore[attr-defined]
    alone = [controller.decide(Observation(*row), 0) for row in rows.tolist()]
    assert windows.tolist() == [decision.window for decision in alone]
    told = [-1.0] * len(alone) if thresholds is None else thresholds.tolist()
    edge = windows > 0
    assert np.array(told)[edge].tolist() == [
        -1.0 if decision.stop_threshold is None else decision.stop_threshold for decision in alone if decision.window
    ]
