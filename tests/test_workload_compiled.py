"""What the compiled twin draws for a run is what the simulator draws: requests, devices and tapes, to the bit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsd_gym.acceptance import PROFILES, AcceptanceProfile, constant_profile
from dsd_gym.scenario import EdgeClass, Lengths, Piece, Scenario, Workload
from dsd_gym.vector.drawing import Drawn
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.loading import CLOSED_BLOCK, Deployment
from dsd_gym.vector.tapes import write_tapes
from dsd_gym.workload import Arrival, Population

LENGTHS = Lengths(300, 200, 128, 100, max_prompt=900, max_output=150)
OPEN = [
    Workload(rate_per_s=20.0),
    Workload(load=0.4),
    Workload("bursty", rate_per_s=20.0, burst_cv=4.0),
    Workload("bursty", rate_per_s=20.0, burst_cv=1.0),
    Workload("piecewise", rate_per_s=10.0, pieces=(Piece(3000, 1), Piece(700, 5), Piece(1000, 0))),
    Workload("diurnal", rate_per_s=20.0, swing=0.8, period_ms=7000.0),
    Workload("diurnal", rate_per_s=20.0, swing=0.0),
]
PROCESSES = [
    *PROFILES.values(),
    *(constant_profile(share) for share in (0.0, 0.7, 1.0)),
    AcceptanceProfile("requests", 0.4, request_sd=1.0),
    AcceptanceProfile("noise", 0.4, confidence_noise_sd=1.0),
]


def scenario_of(workload: Workload, **changed: Any) -> Scenario:
    return Scenario(workload=workload, lengths=LENGTHS, horizon_ms=30_000.0, edges=(EdgeClass(count=7),), **changed)


def rows(drawn: Drawn) -> list[tuple[Any, ...]]:
    streams = range(drawn.first_stream, drawn.first_stream + len(drawn.arrival_ms))
    return list(zip(streams, *(column.tolist() for column in drawn[1:]), strict=True))


def simulated(scenario: Scenario, seed: int) -> list[Arrival]:
    arrivals = Population(scenario, seed).arrivals(scenario.horizon_ms)
    early = takewhile(lambda arrival: arrival.arrival_ms < scenario.horizon_ms, arrivals)
    return list(islice(early, scenario.max_requests))


@pytest.mark.parametrize("limit", [None, 1, 40])
@pytest.mark.parametrize("workload", OPEN, ids=lambda workload: workload.kind)
def test_an_open_loop_is_drawn_alike(workload: Workload, limit: int | None) -> None:
    """Some 600 requests: more than the first array holds, many of them cut in length."""
    scenario = scenario_of(workload, max_requests=limit)
    for seed in (0, 2**31 - 1):
        arrivals = simulated(scenario, seed)
        assert rows(Deployment(scenario).draw(seed, 0)) == [arrival[:4] for arrival in arrivals]
        assert len(arrivals) == limit or (limit is None and len(arrivals) > 100)


def test_a_closed_loop_is_drawn_alike_block_by_block() -> None:
    scenario = scenario_of(Workload("closed", users=5, think_ms=800.0))
    population, deployment, block = Population(scenario, 9), Deployment(scenario), CLOSED_BLOCK * 5
    for first in (0, block, 7 * block):
        requests = [population.request(stream, 0.0) for stream in range(first, first + block)]
        assert rows(deployment.draw(9, first)) == [request[:4] for request in requests]


def test_a_trace_is_replayed_alike(tmp_path: Path) -> None:
    """It begins within the trace; prompts of no token and outputs past the limit are cut."""
    file = tmp_path / "trace.jsonl"
    recorded = [{"arrival_ms": 90.0 * n, "prompt_tokens": 50 * (n % 30), "target_tokens": 3 * n} for n in range(200)]
    file.write_text("\n".join(map(json.dumps, recorded)), encoding="utf-8")
    scenario = scenario_of(Workload("trace", trace=str(file), trace_start_ms=1000.0, rate_scale=0.5))
    arrivals = simulated(scenario, 3)
    assert arrivals[0].stream == 12 and 100 < len(arrivals) < 188
    assert rows(Deployment(scenario).draw(3, 0)) == [arrival[:4] for arrival in arrivals]


@pytest.mark.parametrize("workload", [OPEN[0], Workload("closed", users=11)], ids=lambda workload: workload.kind)
def test_requests_stand_in_their_rows_with_devices_and_tapes(workload: Workload) -> None:
    """A row that another run has had before is as good as a new one."""
    scenario, fleet = scenario_of(workload), Fleet(2)
    deployment, population = Deployment(scenario), Population(scenario, 8)
    for seed in (5, 8):
        fleet.load(1, deployment, seed)
    told = fleet.requests(1)
    expected = [population.request(stream, 0.0) for stream in range(len(told))]
    assert told["device"].tolist() == [request.device for request in expected]
    lengths = told["output_tokens"] + scenario.max_window + 1
    assert told["tape"].tolist() == (np.cumsum(lengths) - lengths).tolist()
    assert not told["committed"].any() and np.isnan(told["first_token_ms"]).all()


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_tapes_are_those_of_the_profile(process: AcceptanceProfile) -> None:
    """More requests than are drawn at a time, beginning with a later stream; lengths from 1 to 80."""
    lengths, seed, first = 1 + np.arange(90, dtype=np.int64) * 7 % 80, 77, 1000
    accepted, confidence = np.empty(lengths.sum(), np.bool_), np.empty(lengths.sum())
    write_tapes(process, seed, first, lengths, accepted, confidence)
    tapes = [process.tape(seed, first + number, length) for number, length in enumerate(lengths.tolist())]
    assert accepted.tolist() == [flag for tape in tapes for flag in tape.accepted]
    assert confidence.tolist() == [share for tape in tapes for share in tape.confidence]


@pytest.mark.parametrize("share", [0.0, 0.123, 0.5, 0.7, 1.0])
def test_a_constant_profile_has_the_tape_of_one_that_hardly_varies(share: float) -> None:
    """The constant's short cut, against the general formula with a deviation that no log-odds can show."""
    constant = constant_profile(share)
    general = replace(constant, confidence_noise_sd=math.ulp(0.0))
    assert general.varies and not constant.varies
    for request in range(20):
        assert constant.tape(4, request, 60) == general.tape(4, request, 60)
