"""A simulation that is looked at after every event, and whose targets' passes are written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from scenarios import Case

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, RequestRecord, Round
from dsd_gym.request import Request
from dsd_gym.scenario import TargetClass
from dsd_gym.simulator import Privileged, Simulation, simulate
from dsd_gym.target import TargetServer
from dsd_gym.target.batch import Batch, Shape, Window
from dsd_gym.workload import Arrival

MOST_EVENTS = 200_000
"""A run of a few requests that has more of them hangs."""


@dataclass
class Pass:
    """One pass of a target: who rode in it, and which windows were left behind."""

    batch: Batch
    left: list[Window]
    start_ms: float
    end_ms: float = math.inf
    tokens: int = 0


@dataclass
class Watched:
    """One target as a simulation's watcher sees it."""

    target: TargetServer
    spec: TargetClass
    passes: list[Pass] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Return whether a pass is under way."""
        return bool(self.passes) and self.passes[-1].end_ms == math.inf


@dataclass
class Asked:
    """A question, and the answer to it."""

    stream: int
    now_ms: float
    observation: Observation
    decision: Decision


Look = Callable[["Run"], None]


class Run(Controller):
    """A case, simulated to its end and listened to; `look` is called after every event."""

    def __init__(self, case: Case, look: Look | None = None) -> None:
        self.case, self.scenario, self._look = case, case.scenario, look
        self.requests: dict[int, Request] = {}
        self.left_ms: dict[int, float] = {}
        """When who left, finished or rejected."""
        self.asked: list[Asked] = []
        self.told: list[tuple[str, int]] = []
        """What the controller was told, in order: ("begin" | "decide" | "record" | "forget", stream)."""
        self._events = 0
        self._inner = case.controller()
        self.records = simulate(case.scenario, self, case.seed)

    def record_of(self, stream: int) -> RequestRecord:
        """Return the record of a request."""
        return next(record for record in self.records.requests if record.stream == stream)

    def rounds_of(self, stream: int) -> list[Round]:
        """Return the rounds of a request, in order."""
        return [round for round in self.records.rounds if round.stream == stream]

    def spec_of(self, request: RequestRecord) -> TargetClass:
        """Return the class of a request's target."""
        return self.targets[request.target].spec

    # --- between the simulation and whoever decides ---------------------------------------------------------------

    def watch(self, simulation: Simulation) -> None:
        """Put an ear to the event loop, to the door, and to each target's passes, before anything happens."""
        self.simulation = simulation
        specs = [spec for spec in self.scenario.targets for _ in range(spec.count)]
        self.targets = [Watched(*pair) for pair in zip(simulation.targets, specs, strict=True)]
        self._listen()
        for watched in self.targets:
            self._listen_to(watched)
        if isinstance(self._inner, Privileged):
            self._inner.watch(simulation)

    def begin(self, stream: int, device: int, target: int) -> None:
        """Pass it on."""
        request = self.requests[stream]
        assert (device, self.simulation.targets[target]) == (request.device.index, request.target)
        self.told.append(("begin", stream))
        self._inner.begin(stream, device, target)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Pass it on, and keep question and answer."""
        self.told.append(("decide", stream))
        decision = self._inner.decide(observation, stream)
        self.asked.append(Asked(stream, self.simulation.env.now, observation, decision))
        return decision

    def record(self, round: Round) -> None:
        """Pass it on."""
        self.told.append(("record", round.stream))
        self._inner.record(round)

    def forget(self, stream: int) -> None:
        """Pass it on."""
        self.told.append(("forget", stream))
        self._inner.forget(stream)

    # --- listening ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        simulation, env = self.simulation, self.simulation.env
        step, enter, leave = env.step, simulation.enter, simulation.leave

        def watched_step() -> None:
            step()
            self._events += 1
            assert self._events < MOST_EVENTS, "the run does not end"
            if self._look is not None:
                self._look(self)

        def watched_enter(arrival: Arrival) -> Request:
            request = self.requests[arrival.stream] = enter(arrival)
            return request

        def watched_leave(request: Request, finished: bool) -> None:
            self.left_ms[request.arrival.stream] = env.now
            leave(request, finished)

        env.step = watched_step  # type: ignore[method-assign]
        simulation.enter, simulation.leave = watched_enter, watched_leave  # type: ignore[method-assign]

    def _listen_to(self, watched: Watched) -> None:
        env, filler, outcomes = self.simulation.env, watched.target._filler, watched.target._outcomes
        next_batch, deliver = filler.next_batch, outcomes.deliver

        def watched_batch() -> Batch:
            assert not watched.busy, "a pass begins before the last one has ended"
            batch = next_batch()
            if len(batch):
                watched.passes.append(Pass(batch, list(watched.target._queues.windows), env.now))
            return batch

        def watched_deliver(batch: Batch, shape: Shape, start_ms: float) -> int:
            entry = watched.passes[-1]
            assert entry.batch is batch and start_ms == entry.start_ms
            entry.end_ms, entry.tokens = env.now, shape.tokens
            return deliver(batch, shape, start_ms)

        filler.next_batch = watched_batch  # type: ignore[method-assign]
        outcomes.deliver = watched_deliver  # type: ignore[method-assign]
