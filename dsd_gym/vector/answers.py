"""Who answers the questions of a fleet: one rule for all at once, or a controller of its own for each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dsd_gym.controller import NO_THRESHOLD, Controller, DecidesMany, PredictsMany
from dsd_gym.observation import Observation
from dsd_gym.rounds import as_rounds
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.layout import FloatArray

Windows = NDArray[np.int64]
_KINDS: list[Callable[[float], float]] = list(get_type_hints(Observation).values())


class Answers(Protocol):
    """Whoever answers for all places of a fleet."""

    def begin(self, place: int) -> None:
        """Learn that a fresh run is put there."""

    def hear(self, fleet: Fleet) -> None:
        """Take in what has happened since the last answer."""

    def answer(self, fleet: Fleet, asking: Windows, windows: Windows, thresholds: FloatArray) -> None:
        """Write windows and stop thresholds (negative: none) at the places that are `asking`."""


class Together:
    """One rule answers all."""

    def __init__(self, controller: DecidesMany) -> None:
        self._controller = controller

    def begin(self, place: int) -> None:
        """Keep nothing of a run."""

    def hear(self, fleet: Fleet) -> None:
        """Learn nothing from what has happened."""

    def answer(self, fleet: Fleet, asking: Windows, windows: Windows, thresholds: FloatArray) -> None:
        """Decide on the rows that ask."""
        chosen, stops = self._controller.decide_many(fleet.seen[asking])
        windows[asking] = chosen
        if stops is not None:
            thresholds[asking] = stops


class EachAlone:
    """Every run has a fresh controller, which is told and asked as the simulator does."""

    def __init__(self, count: int, make: Callable[[], Controller]) -> None:
        self._make = make
        self._controllers: list[Controller] = [make()] * count

    def begin(self, place: int) -> None:
        """Make a controller for the run."""
        self._controllers[place] = self._make()

    def hear(self, fleet: Fleet) -> None:
        """Tell the controllers what has begun and ended."""
        controllers = self._controllers
        for place, stream, device, target in fleet.begun.tolist():
            controllers[place].begin(stream, device, target)
        rounds = fleet.rounds
        for place, round in zip(rounds["deployment"].tolist(), as_rounds(rounds), strict=True):
            controllers[place].record(round)
        for place, stream, *_ in fleet.ended.tolist():
            controllers[place].forget(stream)

    def answer(self, fleet: Fleet, asking: Windows, windows: Windows, thresholds: FloatArray) -> None:
        """Ask them one after another; what they predict beforehand, for all at once."""
        places, streams, seen = asking.tolist(), fleet.asking[asking].tolist(), fleet.seen[asking]
        first = self._controllers[places[0]]
        if isinstance(first, PredictsMany):
            questions = zip(places, streams, first.predict_many(seen).tolist(), strict=True)
            decisions = [self._controllers[place].settle(told, stream) for place, stream, told in questions]
        else:
            rows = zip(places, streams, seen.tolist(), strict=True)
            decisions = [self._controllers[place].decide(_observation(row), stream) for place, stream, row in rows]
        for place, decision in zip(places, decisions, strict=True):
            windows[place] = decision.window
            thresholds[place] = NO_THRESHOLD if decision.stop_threshold is None else decision.stop_threshold


def _observation(row: list[float]) -> Observation:
    """Return a row as the simulator shows it: counts whole, flags true or false."""
    return Observation._make([kind(value) for kind, value in zip(_KINDS, row, strict=True)])
