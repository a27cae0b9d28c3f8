"""A target server: continuous batching of verify windows, cloud decoding and prefill chunks, one pass at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from dsd_gym.hardware import TargetHardware
from dsd_gym.messages import LAST, Message, call_later
from dsd_gym.request import Request
from dsd_gym.scenario import Messages, TargetClass
from dsd_gym.target.batch import CloudDraft, PassCosts
from dsd_gym.target.cost import iteration_cost
from dsd_gym.target.filler import Filler
from dsd_gym.target.load import TargetLoad
from dsd_gym.target.memory import Memory, Preempt, Reserve
from dsd_gym.target.orders import make_order
from dsd_gym.target.outcomes import Outcomes
from dsd_gym.target.queues import Queues
from dsd_gym.target.work import PassLog


class TargetServer:
    """One replica of the target model."""

    def __init__(
        self,
        env: simpy.Environment,
        spec: TargetClass,
        hardware: TargetHardware,
        messages: Messages,
        chunk_tokens: int,
        draft: CloudDraft | None,
        log: PassLog | None = None,
        place: int = 0,
    ) -> None:
        self._env, self._spec = env, spec
        self._turn = LAST + 1 + place
        self._costs = _pass_costs(spec, hardware, draft)
        self._queues = Queues(make_order(spec.order))
        self._memory = self._make_memory(spec.kv_tokens or hardware.kv_capacity_tokens)
        self._filler = Filler(spec, self._queues, self._memory, 1 + self._costs.draft_window)
        self._outcomes = Outcomes(env, self._costs, messages, chunk_tokens, self._queues, self._memory)
        self._idle: Message | None = None
        self._gathering: Message | None = None
        self._admitted = 0
        self.live = 0
        self.one_token_iteration_ms = self._costs.target.one_token_iteration_ms + spec.host_ms
        self.log: PassLog = [] if log is None else log
        self._last_pass = (self.one_token_iteration_ms, 0, 0.0)
        env.process(self._serve())

    # --- what the edges ask for -------------------------------------------------------------------------------

    def admit(self, request: Request) -> bool:
        """Queue a request for prefill; False rejects it: it never fits, or too many wait already."""
        if request.kv_tokens > self._memory.capacity or len(self._queues.waiting) >= self._spec.max_queue:
            self.live -= 1
            return False
        self._admitted += 1
        request.queued_ms, request.admitted = self._env.now, self._admitted
        self._queues.add_waiting(request)
        self._wake()
        return True

    def verify(self, request: Request, drafted: int) -> None:
        """Queue a window for the next iteration."""
        self._queues.add_window(request, drafted, self._env.now)
        self._wake()

    def decode(self, request: Request) -> None:
        """Let the target decode this stream on its own, until `stop` or its last token."""
        request.stopping, request.decoded_in_chunk = False, 0
        self._queues.decoding[request.arrival.stream] = request
        self._wake()

    def stop(self, request: Request) -> None:
        """End cloud decoding after the iteration in progress; a stream that has ended already is left alone."""
        request.stopping = True

    def load(self) -> TargetLoad:
        """Return how busy the target is now."""
        queues, memory = self._queues, self._memory
        waiting, kv_share = len(queues.waiting), 1.0 - memory.free / memory.capacity
        return TargetLoad(waiting, queues.unread_tokens, len(queues.windows), self.live, kv_share, *self._last_pass)

    def prompt_tokens_ahead_of(self, request: Request) -> int:
        """Return the prompt tokens that the target would read before those of a request that comes now."""
        return self._queues.unread_tokens_to(self._queues.order.rank(request))

    # --- one iteration after another ----------------------------------------------------------------------------

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        while True:
            preempted = self._memory.preemptions
            batch = self._filler.next_batch()
            if not len(batch):
                self._idle = Message(self._env)
                yield self._idle
                if self._spec.batch_wait_ms:
                    yield self._gather()
                continue
            start_ms = self._env.now
            shape = batch.shape(self._costs)
            end = Message(self._env)
            end.send(None, shape.total_ms, self._turn)
            yield end
            self.log.append((start_ms, self._env.now, shape.tokens, self._memory.preemptions - preempted))
            self._last_pass = (shape.total_ms, len(batch), self._env.now)
            self.live -= self._outcomes.deliver(batch, shape, start_ms)

    def _wake(self) -> None:
        """Take notice of new work: an idle target starts on it, one that gathers a pass does when it is full."""
        if self._idle is not None:
            self._idle.send(None, 0.0, self._turn)
            self._idle = None
        elif self._gathering is not None and self._filler.full:
            self._start(self._gathering)

    def _gather(self) -> Message:
        """Return when to start a pass: after the batch wait, or as soon as it is full."""
        gathering = self._gathering = Message(self._env)
        call_later(self._env, self._spec.batch_wait_ms, lambda: self._start(gathering), self._turn)
        if self._filler.full:
            self._start(gathering)
        return gathering

    def _start(self, gathering: Message) -> None:
        if self._gathering is gathering:
            self._gathering = None
            gathering.send(None, 0.0, self._turn)

    # --- what it is made of -------------------------------------------------------------------------------------

    def _make_memory(self, capacity: int) -> Memory:
        if self._spec.memory == "reserve":
            return Reserve(capacity)
        return Preempt(capacity, lambda request: self._queues.put_back(request, self._env.now))


def _pass_costs(spec: TargetClass, row: TargetHardware, draft: CloudDraft | None) -> PassCosts:
    cost = iteration_cost(spec, row)
    if draft is None:
        return PassCosts(cost, row, None, 0, spec.host_ms)
    return PassCosts(cost, row, iteration_cost(spec, draft.hardware), draft.window, spec.host_ms)
