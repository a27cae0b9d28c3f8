"""Whole runs under a rule that is a function of the observation alone, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsd_gym.records import Records, RequestRecord, Round, Status, TargetRecord
from dsd_gym.reference import class_records
from dsd_gym.scenario import Scenario
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.layout import FINISHED, LIVE, REJECTED, UNBORN, FloatArray
from dsd_gym.vector.loading import Deployment

WIDTH = 256
"""Runs side by side."""

Windows = NDArray[np.int64]
_STATUS = {LIVE: Status.IN_FLIGHT, FINISHED: Status.FINISHED, REJECTED: Status.REJECTED}


class DecidesMany(Protocol):
    """A controller whose decisions depend on the observation alone."""

    def decide_many(self, seen: FloatArray) -> tuple[Windows, FloatArray | None]:
        """Return windows, and stop thresholds (negative: none) or None, for rows of features in their own units."""


def simulate_many(cells: Sequence[tuple[Scenario, int]], controller: DecidesMany) -> Iterator[tuple[int, Records]]:
    """Run every (scenario, seed) and yield its place in `cells` and its records, as they end.

    The records are those of `dsd_gym.simulator.simulate`, requests in the order of their arrival.

    Raises:
        ConfigError: a scenario has a mechanism that only the SimPy simulator knows.
    """
    deployments: dict[int, Deployment] = {}
    for scenario, _ in cells:
        if id(scenario) not in deployments:
            deployments[id(scenario)] = Deployment(scenario)
    fleet = Fleet(min(len(cells), WIDTH))
    runs: list[int | None] = [None] * fleet.count
    rounds: list[list[Round]] = [[] for _ in range(fleet.count)]
    waiting = iter(range(len(cells)))
    while True:
        free = np.flatnonzero(fleet.over)
        for place in free.tolist():
            if (run := runs[place]) is not None:
                scenario, seed = cells[run]
                yield run, _records(fleet, place, scenario, seed, rounds[place])
            runs[place], rounds[place] = next(waiting, None), []
            if (run := runs[place]) is not None:
                fleet.load(place, deployments[id(cells[run][0])], cells[run][1])
        started = np.array([place for place in free.tolist() if runs[place] is not None], np.int64)
        if len(started):
            fleet.start(started)
            continue
        if fleet.over.all():
            return
        windows, thresholds = controller.decide_many(fleet.seen)
        fleet.answer(windows, thresholds)
        told = fleet.rounds
        for place, round in zip(told["deployment"].tolist(), told[list(Round._fields)].tolist(), strict=True):
            rounds[place].append(Round._make(round))


def _records(fleet: Fleet, place: int, scenario: Scenario, seed: int, rounds: list[Round]) -> Records:
    state, first = fleet.state[place], int(fleet.state[place]["first_stream"])
    classes = fleet.device_classes(place)
    rows = fleet.requests(place)
    born = np.flatnonzero(rows["status"] != UNBORN)
    requests = [_request(first + int(n), rows[n], int(classes[rows[n]["device"]])) for n in born]
    requests.sort(key=lambda request: (request.arrival_ms, request.stream))
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
        float(state["now_ms"]),
        scenario.slo.ttft_ms,
        scenario.slo.tpot_ms,
        requests,
        rounds,
        targets,
        class_records(scenario),
    )


def _request(stream: int, row: np.void, device_class: int) -> RequestRecord:
    return RequestRecord(
        stream,
        int(row["device"]),
        device_class,
        int(row["target"]),
        float(row["arrival_ms"]),
        int(row["prompt_tokens"]),
        int(row["output_tokens"]),
        int(row["committed"]),
        None if np.isnan(row["first_token_ms"]) else float(row["first_token_ms"]),
        None if np.isnan(row["finish_ms"]) else float(row["finish_ms"]),
        _STATUS[int(row["status"])],
    )
