"""Random deployments that the compiled twin can run, and the twin and the simulator asked and answered side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from dice import Dice
from scenarios import FOREVER_MS, MAX_REQUESTS, Case, a_case

from dsd_gym.observation import Observation
from dsd_gym.records import Round
from dsd_gym.scenario import LinkSpec, Scenario
from dsd_gym.simulator import Simulation
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.loading import Deployment
from dsd_gym.vector.support import _ONLY

FIGURES = list(Round._fields)


def compilable_case(seed: int) -> Case:
    """Return the random deployment of a seed, without what the twin does not know, and whoever decides in it."""
    case = a_case(seed, (0.0, 800.0, FOREVER_MS))
    scenario = varied(compilable(case.scenario), Dice(seed + 2**32))
    return replace(case, scenario=scenario, spec="awc" if case.spec == "oracle" else case.spec)


def compilable(scenario: Scenario) -> Scenario:
    """Return the scenario with the twin's settings where it has others."""
    only: dict[str, dict[str, Any]] = _ONLY
    return replace(
        scenario,
        **only[""],
        admission=replace(scenario.admission, **only["admission"]),
        cloud=replace(scenario.cloud, **only["cloud"]),
        link=replace(scenario.link, **only["link"]),
        edges=tuple(
            replace(edge, **only["edges"], link=edge.link and replace(edge.link, **only["link"]))
            for edge in scenario.edges
        ),
        targets=tuple(replace(target, **only["targets"]) for target in scenario.targets),
    )


def varied(scenario: Scenario, dice: Dice) -> Scenario:
    """Return the scenario with other values of settings that most tests leave alone."""
    pick, messages, lengths = dice.pick, scenario.messages, scenario.lengths
    sizes = {"prompt_token_bytes": pick(0.0, 4.0), "committed_token_bytes": pick(0.0, 7.5), "top_k": pick(4, 32)}
    work = {"burst_cv": pick(1.0, 6.0), "swing": pick(0.3, 1.0), "period_ms": pick(90.0, 400.0)}
    work |= {"trace_format": pick(None, "azure"), "trace_start_ms": pick(0.0, 500.0), "rate_scale": pick(3.0, 40.0)}
    endless = scenario.workload.kind == "closed" and scenario.workload.think_ms > 0.0 and pick(True, False)
    return replace(
        scenario,
        link=a_slot(scenario.link, dice),
        edges=tuple(replace(edge, link=edge.link and a_slot(edge.link, dice)) for edge in scenario.edges),
        messages=replace(messages, **sizes),
        workload=replace(scenario.workload, **work),
        lengths=replace(lengths, prompt_mean=pick(40, 70), prompt_median=pick(20, 40), max_prompt=pick(30, 90)),
        max_requests=None if endless else pick(1, 7, MAX_REQUESTS, MAX_REQUESTS, 5 * MAX_REQUESTS),
        horizon_ms=350.0 if endless else scenario.horizon_ms,
    )


def a_slot(link: LinkSpec, dice: Dice) -> LinkSpec:
    """Return the link with another length of its jitter's slots."""
    return replace(link, jitter_slot_ms=dice.pick(3.0, 50.0))


class Twins:
    """A fleet and a simulation for each of its deployments."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.fleet = Fleet(len(cases))
        self.simulations = [Simulation(case.scenario, case.seed) for case in cases]
        self.controllers = [case.controller() for case in cases]
        self.met: Counter[str] = Counter()
        for place, case in enumerate(cases):
            self.fleet.load(place, Deployment(case.scenario), case.seed)
        self.fleet.start(np.arange(len(cases)))

    def run(self) -> None:
        """Go on to the end of all, comparing at every question what both tell."""
        asks = [self.compare(place) for place in range(self.fleet.count)]
        while not self.fleet.over.all():
            windows, thresholds = np.zeros(self.fleet.count, np.int64), np.full(self.fleet.count, -1.0)
            for place, ask in enumerate(asks):
                if ask is not None:
                    decision = self.controllers[place].decide(*ask)
                    self.simulations[place].answer(decision)
                    windows[place] = decision.window
                    thresholds[place] = -1.0 if decision.stop_threshold is None else decision.stop_threshold
            self.fleet.answer(windows, thresholds)
            asks = [self.compare(place) if ask is not None else None for place, ask in enumerate(asks)]

    def compare(self, place: int) -> tuple[Observation, int] | None:
        """Take one deployment of the simulator to its next question and assert that the twin stands there too."""
        simulation, fleet, controller = self.simulations[place], self.fleet, self.controllers[place]
        ask = simulation.next_decision()
        assert fleet.over[place] == (ask is None)
        rounds = simulation.take_rounds()
        told = fleet.rounds[fleet.rounds["deployment"] == place]
        assert [tuple(map(float, round)) for round in rounds] == [tuple(map(float, r)) for r in told[FIGURES].tolist()]
        begun, ended = simulation.take_begun(), simulation.take_ended()
        for own, theirs in ((fleet.begun, begun), (fleet.ended, [(r.stream, r.device, r.target) for r in ended])):
            rows = own[own["deployment"] == place]
            assert rows[["stream", "device", "target"]].tolist() == theirs
        assert fleet.waited_ms[place] == simulation.take_waited_ms()
        assert fleet.now_ms[place] == simulation.env.now
        assert fleet.live[place] == len(simulation.live)
        self.note(rounds, [r.status for r in ended])
        for stream, device, target in begun:
            controller.begin(stream, device, target)
        for round in rounds:
            controller.record(round)
        for request in ended:
            controller.forget(request.stream)
        if ask is None:
            self.met["cut"] += bool(simulation.live)
            return None
        assert fleet.asking[place] == ask.stream
        np.testing.assert_array_equal(fleet.seen[place], np.array(ask.observation, np.float64))
        return ask.observation, ask.stream

    def note(self, rounds: Sequence[Round], statuses: Sequence[str]) -> None:
        """Count what has been met."""
        self.met.update(statuses)
        self.met["returns"] += sum(bool(round.cloud_tokens and round.drafted) for round in rounds)
        self.met["stops"] += sum(0 < round.drafted < round.window for round in rounds)
        self.met["waits"] += sum(round.queue_wait_ms > 0 for round in rounds)
