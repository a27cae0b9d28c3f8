"""Whole runs, many at once, under a rule that is a function of the observation alone or a controller for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dsd_gym.controller import NO_THRESHOLD, Controller, DecidesMany
from dsd_gym.records import Records, RequestRecord, Status, TargetRecord
from dsd_gym.reference import class_records
from dsd_gym.rounds import RoundArray, RoundTable
from dsd_gym.scenario import Scenario
from dsd_gym.vector.answers import Answers, EachAlone, Together
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.kept import KeptRounds
from dsd_gym.vector.layout import FINISHED, LIVE, REJECTED, UNBORN
from dsd_gym.vector.loading import Deployment

WIDTH = 256
"""Runs side by side."""

Runs = Sequence[tuple[Scenario, int]]
"""Scenario and seed of each."""

_STATUS = {LIVE: Status.IN_FLIGHT, FINISHED: Status.FINISHED, REJECTED: Status.REJECTED}
_REQUEST = [
    "device", "target", "arrival_ms", "prompt_tokens", "output_tokens", "committed", "first_token_ms", "finish_ms",
    "status",
]  # fmt: skip


def simulate_many(cells: Runs, controller: DecidesMany) -> Iterator[tuple[int, Records]]:
    """Run every (scenario, seed) and yield its place in `cells` and its records, as they end.

    The records are those of `dsd_gym.simulator.simulate`, requests in the order of their arrival.

    Raises:
        ConfigError: a scenario has a mechanism that only the SimPy simulator knows.
    """
    return simulate_with(cells, lambda fleet: Together(controller))


def simulate_each(cells: Runs, make_controller: Callable[[], Controller]) -> Iterator[tuple[int, Records]]:
    """Do the same with a fresh controller for each run, which may remember what it was told and asked."""
    return simulate_with(cells, lambda fleet: EachAlone(fleet.count, make_controller))


def simulate_all(cells: Runs, make_controller: Callable[[], Controller]) -> Iterator[tuple[int, Records]]:
    """Do the same with one controller for all runs, if its decisions depend on the observation alone."""
    controller = make_controller()
    if isinstance(controller, DecidesMany):
        return simulate_many(cells, controller)
    return simulate_each(cells, make_controller)


def simulate_with(cells: Runs, answers_for: Callable[[Fleet], Answers]) -> Iterator[tuple[int, Records]]:
    """Do the same with whoever answers for a fleet; runs are put in its places, and begin, in the order of `cells`."""
    fleet = Fleet(min(len(cells), WIDTH))
    answers = answers_for(fleet)
    scenarios = {id(scenario): scenario for scenario, _ in cells}
    deployments = {key: Deployment(scenario) for key, scenario in scenarios.items()}
    runs: list[int | None] = [None] * fleet.count
    rounds, waiting = KeptRounds(fleet.count), iter(range(len(cells)))
    while True:
        free = np.flatnonzero(fleet.over)
        for place in free.tolist():
            if (run := runs[place]) is not None:
                yield run, _records(fleet, place, *cells[run], rounds.take(place))
            runs[place] = next(waiting, None)
            if (run := runs[place]) is not None:
                fleet.load(place, deployments[id(cells[run][0])], cells[run][1])
                answers.begin(place)
        started = np.array([place for place in free.tolist() if runs[place] is not None], np.int64)
        if len(started):
            fleet.start(started)
        elif len(free) == fleet.count:
            return
        else:
            _answer(fleet, answers)
            rounds.add(fleet.rounds)
        answers.hear(fleet)


def _answer(fleet: Fleet, answers: Answers) -> None:
    asking = np.flatnonzero(~fleet.over)
    windows, thresholds = np.zeros(fleet.count, np.int64), np.full(fleet.count, NO_THRESHOLD)
    answers.answer(fleet, asking, windows, thresholds)
    fleet.answer(windows, thresholds)


def _records(fleet: Fleet, place: int, scenario: Scenario, seed: int, rounds: RoundArray) -> Records:
    targets = [
        TargetRecord(float(target["busy_ms"]), int(target["iterations"]), int(target["pass_tokens"]))
        for target in fleet.targets(place)
    ]
    return Records(
        scenario.name,
        seed,
        scenario.warm_up_ms,
        scenario.horizon_ms,
        scenario.horizon_ms + scenario.drain_ms,
        float(fleet.state[place]["now_ms"]),
        scenario.slo.ttft_ms,
        scenario.slo.tpot_ms,
        _requests(fleet, place),
        RoundTable(rounds),
        targets,
        class_records(scenario),
    )


def _requests(fleet: Fleet, place: int) -> list[RequestRecord]:
    """Return the requests that arrived, in the order of their arrival."""
    first, classes = int(fleet.state[place]["first_stream"]), fleet.device_classes(place)
    rows = fleet.requests(place)
    born = np.flatnonzero(rows["status"] != UNBORN)
    born = born[np.lexsort((born, rows["arrival_ms"][born]))]
    rows = rows[born]
    of_classes = classes[rows["device"]].tolist()
    streams = (born + first).tolist()
    return [_request(*told) for told in zip(streams, of_classes, rows[_REQUEST].tolist(), strict=True)]


def _request(stream: int, device_class: int, row: tuple[Any, ...]) -> RequestRecord:
    device, target, arrival_ms, prompt_tokens, output_tokens, committed, first_token_ms, finish_ms, status = row
    return RequestRecord(
        stream,
        device,
        device_class,
        target,
        arrival_ms,
        prompt_tokens,
        output_tokens,
        committed,
        None if math.isnan(first_token_ms) else first_token_ms,
        None if math.isnan(finish_ms) else finish_ms,
        _STATUS[status],
    )
