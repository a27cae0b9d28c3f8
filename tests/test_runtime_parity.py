"""The simulator and the runtime are twins: the same times, guesses and verdicts make the same observations and rounds.

A request is simulated without jitter while the moments are noted at which its messages reach and leave the target.
Then the runtime's loop lives through the same request: its stream replays those messages, its draft takes the simulated
times and gives the simulated confidences, and an event loop with a virtual clock, in ms, lets no other time pass.

Equal by construction, not by measurement: the draft's ms a token, which the simulated edge knows from the beginning;
downlink transmission, which an edge cannot tell from propagation, is made negligible; a ping takes exactly the
simulated round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from virtual_time import VirtualLoop, until

from dsd_gym.observation import Observation, to_array
from dsd_gym.records import Decision, Records
from dsd_gym.reference import device_figures
from dsd_gym.request import Request as SimulatedRequest
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import Simulation
from dsd_gym.target import Verdict as SimulatedVerdict
from runtime.edge.connection import Connection
from runtime.edge.device import Device
from runtime.edge.draft import DraftState, Guess
from runtime.edge.request import Progress, Request
from runtime.messages import Opening, Sampling, Stream, Target, Verdict

PROMPT = 2000
QUIET = Scenario(
    edges=(EdgeClass("l40s/Llama-3.2-1B", 1),),
    link=LinkSpec(rtt_ms=30, jitter_ms=0, up_mbps=20, down_mbps=1e9),
    workload=Workload("closed", users=1),
    lengths=Lengths(PROMPT, PROMPT, 150, 150),
    warm_up_ms=0,
    max_requests=1,
)
SLOW_READER = replace(QUIET, edges=(EdgeClass(draft_ms_per_token=6.0, prefill_ms_per_token=2.5, count=1),))
TOLERANCE_MS = 1e-6
"""For downlink transmission at 10^9 Mbit/s, and sums taken in another order."""


class Message(NamedTuple):
    """A simulated message: when what it answers reached the target, when it left, and when it was received."""

    arrived_ms: float
    left_ms: float
    received_ms: float
    verdict: SimulatedVerdict


class NotedSimulation(Simulation):
    """A simulation of one request that notes its messages."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, seed=3)
        self.messages: list[Message] = []
        self._arrived_ms, self._left_ms = 0.0, deque[float]()
        (target,) = self.targets
        for name in ("admit", "verify", "decode"):
            setattr(target, name, self._noting(getattr(target, name)))
        outcomes = target._outcomes
        send = outcomes._send
        outcomes._send = lambda *arguments: (self._left_ms.append(self.env.now), send(*arguments))  # type: ignore

    def _noting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self._arrived_ms = self.env.now
            return method(*arguments)

        return noted

    def _received(self, request: SimulatedRequest, verdict: SimulatedVerdict, rtt_ms: float) -> None:
        super()._received(request, verdict, rtt_ms)
        self.messages.append(Message(self._arrived_ms, self._left_ms.popleft(), self.env.now, verdict))


class Scripted:
    """Decide the windows given, over and over, and keep the observations."""

    def __init__(self, windows: tuple[int, ...]) -> None:
        self._windows = cycle(windows)
        self.asked: list[Observation] = []

    def decide(self, observation: Observation, stream: int) -> Decision:
        self.asked.append(observation)
        return Decision(next(self._windows))


class Replay:
    """A target and stream whose messages come when, and as, they came in the simulation."""

    def __init__(self, simulation: NotedSimulation, tokens: int) -> None:
        self._messages, self._scenario, self._left = iter(simulation.messages), simulation.scenario, tokens
        self.committed = 0
        self.uplink_bytes: Any = 0
        self.max_window = simulation.scenario.max_window
        self.downlink_bytes: Any = 0

    async def open(self, opening: Opening) -> Stream:
        assert not opening.committed
        return self._up(self._scenario.messages.prompt_token_bytes * len(opening.prompt))

    async def verify(self, position: int, tokens: list[int], draft_probs: bytes) -> None:
        assert position == self.committed
        self._up(self._scenario.messages.draft_token_bytes * len(tokens))

    async def decode(self, position: int) -> None:
        assert position == self.committed
        self._up(0)

    async def stop(self) -> None:
        self._up(0)

    async def receive(self) -> Verdict:
        message = next(self._messages)
        await until(message.received_ms)
        simulated = message.verdict
        self.downlink_bytes += simulated.message_bytes
        position, self.committed = self.committed, self.committed + simulated.tokens
        return Verdict(
            position,
            simulated.accepted,
            (0,) * (simulated.tokens - simulated.accepted),
            simulated.final,
            "stop" if self.committed == self._left else "",
            simulated.report,
            message.left_ms - message.arrived_ms,
            simulated.externality_ms,
        )

    async def ping(self) -> float:
        await asyncio.sleep(self._scenario.link.rtt_ms)
        return self._scenario.link.rtt_ms

    async def close(self) -> None:
        pass

    def _up(self, payload_bytes: float) -> Replay:
        self.uplink_bytes += self._scenario.messages.header_bytes + payload_bytes
        return self


class SimulatedDraft:
    """Guess with the confidences of the tape."""

    def __init__(self, simulation: NotedSimulation, confidence: list[float]) -> None:
        self.draft_ms_per_token, self.read_ms_per_token = device_figures(simulation.scenario.edges[0])
        self.model = SimpleNamespace(eos_tokens=frozenset())
        self._confidence = confidence

    def new_state(self, *arguments: Any) -> DraftState:
        return DraftState(None, *arguments)  # type: ignore[arg-type]

    def read(self, state: DraftState) -> None:
        state.read_tokens = state.prompt_tokens

    def guess(self, state: DraftState) -> Guess:
        state.read_tokens = len(state.context)
        return Guess(0, self._confidence[state.committed], None)

    def window(
        self, state: DraftState, first: Guess | None, length: int, stop_threshold: float | None = None
    ) -> list[Guess]:
        assert stop_threshold is None
        ahead = range(state.committed, state.committed + length)
        assert first is None or first.confidence == self._confidence[state.committed]
        state.read_tokens = len(state.context)
        return [Guess(0, self._confidence[position], None) for position in ahead]


class VirtualDevice(Device):
    """A device whose draft takes the time that is booked."""

    def _compute(self, work_ms: float, work: Any, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        self.busy_until_ms = max(self._clock(), self.busy_until_ms) + work_ms

        async def compute(done_ms: float) -> Any:
            await until(done_ms)
            return work(*args, **kwargs)

        return asyncio.ensure_future(compute(self.busy_until_ms))


def simulate(scenario: Scenario, controller: Scripted) -> tuple[NotedSimulation, Records, list[float]]:
    """Return the simulation, what it left behind, and the draft's confidence at each position."""
    simulation, confidence = NotedSimulation(scenario), []
    while (ask := simulation.next_decision()) is not None:
        confidence = simulation.live[ask.stream].tape.confidence
        simulation.answer(controller.decide(ask.observation, ask.stream))
    return simulation, simulation.records(), confidence


def relive(simulation: NotedSimulation, confidence: list[float], controller: Any) -> list[Progress]:
    """Live through the simulated request with the runtime's loop."""
    (request,) = simulation.records().requests
    loop = VirtualLoop()

    async def life() -> list[Progress]:
        device = VirtualDevice(SimulatedDraft(simulation, confidence), loop.time)  # type: ignore[arg-type]
        opening = Opening((0,) * request.prompt_tokens, (), request.output_tokens + 100, Sampling())
        replay: Target = Replay(simulation, request.output_tokens)  # type: ignore[assignment]
        connection = Connection(replay, opening, device, loop.time, 0.0)
        reborn = Request(request.stream, opening, device, connection, controller, loop.time)
        return [progress async for progress in reborn.life()]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(life())


def scripts() -> Iterator[Any]:
    """Yield scenarios and windows: at the edge, in the cloud, to and fro, and before the draft has read the prompt."""
    for windows in ((4,), (1,), (12,), (0,), (3, 0, 0, 5), (0, 7), (2, 0, 0, 0, 9, 1)):
        yield pytest.param(QUIET, windows, id=f"quiet {windows}")
        yield pytest.param(SLOW_READER, windows, id=f"slow reader {windows}")


@pytest.mark.parametrize(("scenario", "windows"), list(scripts()))
def test_the_runtime_sees_and_records_what_the_simulator_does(scenario: Scenario, windows: tuple[int, ...]) -> None:
    asked, asked_again = Scripted(windows), Scripted(windows)
    simulation, records, confidence = simulate(scenario, asked)
    progress = relive(simulation, confidence, asked_again)
    assert len(asked.asked) == len(asked_again.asked) >= 10
    for simulated, relived in zip(asked.asked, asked_again.asked, strict=True):
        for name, ours, theirs in zip(Observation._fields, relived, simulated, strict=True):
            assert ours == pytest.approx(theirs, abs=TOLERANCE_MS, rel=1e-9), name
        np.testing.assert_allclose(to_array(relived), to_array(simulated), rtol=0, atol=TOLERANCE_MS)
    rounds = [step.round for step in progress if step.round]
    assert len(rounds) == len(records.rounds)
    for ours_round, round in zip(rounds, records.rounds, strict=True):
        assert ours_round == pytest.approx(round, abs=TOLERANCE_MS, rel=1e-9)
    assert sum(len(step.tokens) for step in progress) == records.requests[0].output_tokens


def test_the_replay_meets_what_it_is_meant_to() -> None:
    """A window that is rejected, cloud chunks, a drain, and decisions before the draft has read the prompt."""
    controller = Scripted((2, 0, 0, 0, 9, 1))
    _, records, _ = simulate(SLOW_READER, controller)
    assert not controller.asked[0].has_first_guess and controller.asked[0].catch_up_ms > 100
    assert any(round.window and round.cloud_tokens for round in records.rounds)
    assert any(0 < round.accepted < round.drafted for round in records.rounds)
    assert controller.asked[5].uplink_ms_per_token > 0
