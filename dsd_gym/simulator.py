"""DSD-Sim: a request's life, from arrival to last token. The one place to read a round from ask to verdict.

    simulate(scenario, controller, seed)      a whole run under one controller
    Simulation(scenario, seed)                the same, paused at every decision: next_decision(), answer(decision)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import simpy

from dsd_gym.acceptance import mean_confidence, stopped_window
from dsd_gym.controller import Controller
from dsd_gym.deployment import Deployment, Life
from dsd_gym.messages import call_later
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records
from dsd_gym.request import Request
from dsd_gym.scenario import Scenario
from dsd_gym.tally import Sink
from dsd_gym.target import Verdict


@runtime_checkable
class Privileged(Protocol):
    """A controller that may look behind the observation: no rival."""

    def watch(self, simulation: Simulation) -> None:
        """Take hold of the simulation before it starts."""


class Ask(NamedTuple):
    """A moment at which somebody must decide."""

    stream: int
    observation: Observation
    event: simpy.Event


def simulate(
    scenario: Scenario, controller: Controller, seed: int | None = None, sink: Sink | None = None
) -> Records:
    """Run a scenario to its end under `controller` and return its records; the same seed gives the same luck to all.

    With a `sink`, rounds and requests go there as they end and are not kept: memory does not grow with the horizon.
    """
    keep = sink is None
    simulation = Simulation(scenario, scenario.seed if seed is None else seed, keep, keep)
    if sink is not None:
        sink.begin(simulation.records())
    if isinstance(controller, Privileged):
        controller.watch(simulation)
    while (ask := simulation.next_decision()) is not None:
        _tell(controller, simulation, sink)
        simulation.answer(controller.decide(ask.observation, ask.stream))
    _tell(controller, simulation, sink)
    records = simulation.records()
    if sink is not None:
        for request in records.requests:  # those in flight
            sink.add_request(request)
        sink.end(records)
    return records


def _tell(controller: Controller, simulation: Simulation, sink: Sink | None) -> None:
    """Let the controller, and the sink, know what has begun and ended since the last decision."""
    for stream, device, target in simulation.take_begun():
        controller.begin(stream, device, target)
    for round in simulation.take_rounds():
        controller.record(round)
        if sink is not None:
            sink.add_round(round)
    for request in simulation.take_ended():
        controller.forget(request.stream)
        if sink is not None:
            sink.add_request(request)


class Simulation(Deployment):
    """One deployment in simulated time, which stands still while a decision is pending."""

    def __init__(
        self, scenario: Scenario, seed: int, keep_rounds: bool = True, keep_requests: bool = True
    ) -> None:
        super().__init__(scenario, seed, keep_rounds, keep_requests)
        self._asks: deque[Ask] = deque()
        self._asking: Ask | None = None

    # --- driven from outside ------------------------------------------------------------------------------------

    def next_decision(self) -> Ask | None:
        """Advance to the next moment at which somebody must decide; None when the run is over."""
        asks, step = self._asks, self.env.step
        while not asks and not self.stopped:
            step()
        self._asking = asks.popleft() if asks and not self.stopped else None
        return self._asking

    def answer(self, decision: Decision) -> None:
        """Answer the pending question; a window outside 0..max_window or a threshold outside 0..1 raises ValueError."""
        if self._asking is None:
            raise ValueError("nobody is asking")
        if not 0 <= decision.window <= self.scenario.max_window:
            raise ValueError(f"window {decision.window} is outside 0..{self.scenario.max_window}")
        if decision.stop_threshold is not None and not 0.0 <= decision.stop_threshold <= 1.0:
            raise ValueError(f"stop_threshold {decision.stop_threshold} is outside 0..1")
        self._asking.event.succeed(decision)
        self._asking = None

    # --- a request's life ---------------------------------------------------------------------------------------

    def life(self, request: Request) -> Life:
        """Live through a request: the first token, then ask, and speculate or let the cloud decode, to the end."""
        admitted = yield from self._first_token(request)
        while admitted and not request.finished:
            if request.degraded:
                decision, request.decided_ms = Decision(0), self.env.now
            else:
                observation = yield from self._observe(request)
                decision = yield self._ask(request, observation)
            if decision.window:
                yield from self._speculate(request, decision)
            else:
                yield from self._decode_in_cloud(request)
        self.leave(request, finished=admitted)

    def _first_token(self, request: Request) -> Generator[simpy.Event, Any, bool]:
        """Send the prompt up; the target prefills and sends the first token, while the draft reads the prompt too."""
        now, device, messages = self.env.now, request.device, self.scenario.messages
        prompt = request.arrival.prompt_tokens
        request.draft_ready_ms = device.compute(now, prompt * device.prefill_ms)
        up_ms, transmit_ms = request.link.uplink(now, messages.header_bytes + messages.prompt_token_bytes * prompt)
        yield self.env.timeout(up_ms + transmit_ms)
        if not self._admission.admit(request):
            return False
        verdict = yield request.inbox.receive()
        self._received(request, verdict, up_ms + verdict.propagation_ms)
        request.first_token_ms = request.round_start_ms = self.env.now
        return True

    def _observe(self, request: Request) -> Generator[simpy.Event, Any, Observation]:
        """Let the draft make its first guess, unless it has tokens to read before it could."""
        device, now = request.device, self.env.now
        confidence, catch_up_ms = None, 0.0
        if request.cloud_mode:
            catch_up_ms = max(0.0, device.busy_until_ms - now) + request.unread_tokens * device.prefill_ms
        elif request.draft_ready_ms > now:
            catch_up_ms = device.busy_until_ms - now  # prompts that came later are read before it drafts
        else:
            yield self.env.timeout(device.first_guess(request, now) - now)
            confidence = request.tape.confidence[request.committed]
        return request.view.observe(
            self.env.now,
            confidence,
            request.cloud_mode,
            catch_up_ms,
            request.arrival.prompt_tokens + request.committed,
            request.committed,
        )

    def _ask(self, request: Request, observation: Observation) -> simpy.Event:
        event = self.env.event()
        self._asks.append(Ask(request.arrival.stream, observation, event))
        request.decided_ms = self.env.now
        return event

    def _speculate(self, request: Request, decision: Decision) -> Life:
        """Draft a window, send it, have it verified, receive the verdict."""
        env, device, messages = self.env, request.device, self.scenario.messages
        decoded: Sequence[Verdict] = ()
        stop_bytes = 0.0
        if request.cloud_mode:
            stop_bytes = messages.header_bytes
            decoded = yield from self._return_to_edge(request)
            if request.finished:
                return self._end_round(request, decision.window, decoded=decoded, up_bytes=stop_bytes)
        confidence = request.tape.confidence[request.committed : request.committed + decision.window]
        drafted = decision.window
        if decision.stop_threshold is not None:
            drafted = stopped_window(confidence, decision.stop_threshold)
        drafted_ms = device.draft(request, drafted, env.now)
        up_bytes = messages.header_bytes + messages.draft_token_bytes * drafted
        if device.link.queues:  # a place in a queue is had by being there
            yield env.timeout(drafted_ms - env.now)
            drafted_ms = env.now
        up_ms, transmit_ms = request.link.uplink(drafted_ms, up_bytes)
        yield env.timeout(drafted_ms - env.now + up_ms + transmit_ms)
        request.target.verify(request, drafted)
        verdict = yield request.inbox.receive()
        request.view.verified(drafted, verdict.accepted, mean_confidence(confidence, 0, drafted))
        device.verified(request, self._as_drafted(request, drafted, verdict), env.now)
        self._received(request, verdict, up_ms + verdict.propagation_ms)
        return self._end_round(request, decision.window, drafted, verdict, decoded, up_bytes + stop_bytes)

    def _decode_in_cloud(self, request: Request) -> Life:
        """Receive one chunk of the target's own decoding, which runs on while the controller is asked."""
        up_bytes = 0.0 if request.cloud_mode else self.scenario.messages.header_bytes  # staying takes no message
        up_ms, transmit_ms = request.link.uplink(self.env.now, up_bytes)
        if not request.cloud_mode:
            request.cloud_mode, request.unread_tokens = True, 0
            request.device.verified(request, as_drafted=False, now_ms=self.env.now)
            call_later(self.env, up_ms + transmit_ms, lambda: request.target.decode(request))
        verdict = yield request.inbox.receive()
        request.unread_tokens += verdict.tokens
        request.view.decoded_in_cloud()
        self._received(request, verdict, up_ms + verdict.propagation_ms)
        self._end_round(request, 0, decoded=[verdict], up_bytes=up_bytes)

    def _return_to_edge(self, request: Request) -> Generator[simpy.Event, Any, list[Verdict]]:
        """Stop the target, take in what it decoded until the stop arrived, and let the draft read what it missed."""
        up_ms, transmit_ms = request.link.uplink(self.env.now, self.scenario.messages.header_bytes)
        call_later(self.env, up_ms + transmit_ms, lambda: request.target.stop(request))
        decoded: list[Verdict] = []
        while not decoded or not decoded[-1].final:
            decoded.append((yield request.inbox.receive()))
            self._received(request, decoded[-1], up_ms + decoded[-1].propagation_ms)
        request.cloud_mode = False
        unread = request.unread_tokens + sum(verdict.tokens for verdict in decoded)
        request.draft_ready_ms = request.device.compute(self.env.now, unread * request.device.prefill_ms)
        return decoded

    def _as_drafted(self, request: Request, drafted: int, verdict: Verdict) -> bool:
        """Return whether all was accepted and the bonus token is what the draft would have guessed."""
        after = request.committed + drafted
        more = after + 1 < request.arrival.output_tokens
        return more and verdict.accepted == drafted and request.tape.accepted[after]

    # --- what a round leaves behind --------------------------------------------------------------------------------

    def _received(self, request: Request, verdict: Verdict, rtt_ms: float) -> None:
        request.committed += verdict.tokens
        request.view.link.measured(rtt_ms)
        request.view.heard(verdict.report, self.env.now)

    def _end_round(
        self,
        request: Request,
        window: int,
        drafted: int = 0,
        verdict: Verdict | None = None,
        decoded: Sequence[Verdict] = (),
        up_bytes: float = 0.0,
    ) -> None:
        """Enter a round: `verdict` is on its window, `decoded` what the target decoded on its own."""
        self.note(request.end_round(self.env.now, window, drafted, verdict, decoded, up_bytes))
