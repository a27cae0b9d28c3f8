"""A target server: continuous batching of verify windows, cloud decoding and prefill chunks, one pass at a time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from typing import Any, NamedTuple

import simpy

from dsd_gym import latency
from dsd_gym.acceptance import accepted_run
from dsd_gym.hardware import TargetHardware
from dsd_gym.messages import LAST, Message
from dsd_gym.observation import Report
from dsd_gym.records import TargetRecord
from dsd_gym.request import Request
from dsd_gym.scenario import Messages, TargetClass
from dsd_gym.target.batch import Batch, CloudDraft, Shape, Window


class Verdict(NamedTuple):
    """A message from the target: tokens it has committed, and how busy it is."""

    tokens: int
    accepted: int
    report: Report
    externality_ms: float
    propagation_ms: float
    message_bytes: float
    final: bool
    """The target is no longer decoding this stream on its own."""


class TargetServer:
    """One replica of the target model. KV memory is reserved for a request's whole life when its prefill begins."""

    def __init__(
        self,
        env: simpy.Environment,
        spec: TargetClass,
        hardware: TargetHardware,
        messages: Messages,
        chunk_tokens: int,
        draft: CloudDraft | None,
    ) -> None:
        self._env, self._spec, self._hardware, self._messages = env, spec, hardware, messages
        self._chunk_tokens, self._draft = chunk_tokens, draft
        self._tokens_per_decode = 1 + (draft.window if draft else 0)
        self._windows: list[Window] = []
        self._decoding: dict[int, Request] = {}
        self._prefilling: deque[Request] = deque()
        self._waiting: deque[Request] = deque()
        self._kv_free = spec.kv_tokens or hardware.kv_capacity_tokens
        self._idle: Message | None = None
        self.kv_capacity = self._kv_free
        self.live = 0
        self.one_token_iteration_ms = hardware.one_token_iteration_ms + spec.host_ms
        self.log: list[tuple[float, float, int]] = []
        """(start_ms, end_ms, tokens) of every iteration."""
        env.process(self._serve())

    # --- what the edges ask for -------------------------------------------------------------------------------

    def admit(self, request: Request) -> bool:
        """Queue a request for prefill; False rejects it: it never fits, or too many wait already."""
        if request.kv_tokens > self.kv_capacity or len(self._waiting) >= self._spec.max_queue:
            self.live -= 1
            return False
        request.queued_ms = self._env.now
        self._waiting.append(request)
        self._wake()
        return True

    def verify(self, request: Request, drafted: int) -> None:
        """Queue a window for the next iteration."""
        heapq.heappush(self._windows, Window(self._env.now, request.arrival.stream, drafted, request))
        self._wake()

    def decode(self, request: Request) -> None:
        """Let the target decode this stream on its own, until `stop` or its last token."""
        request.stopping, request.decoded_in_chunk = False, 0
        self._decoding[request.arrival.stream] = request
        self._wake()

    def stop(self, request: Request) -> None:
        """End cloud decoding after the iteration in progress; a stream that has ended already is left alone."""
        request.stopping = True

    def record(self, start_ms: float, end_ms: float) -> TargetRecord:
        """Return the work done inside the interval."""
        inside = [(max(a, start_ms), min(b, end_ms), n) for a, b, n in self.log if a < end_ms and b > start_ms]
        return TargetRecord(sum(b - a for a, b, _ in inside), len(inside), sum(n for _, _, n in inside))

    # --- one iteration after another ----------------------------------------------------------------------------

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        while True:
            batch = self._next_batch()
            if not len(batch):
                self._idle = Message(self._env)
                yield self._idle
                continue
            start_ms = self._env.now
            shape = batch.shape(self._hardware, self._draft, self._spec.host_ms)
            end = Message(self._env)
            end.send(None, shape.total_ms, LAST)
            yield end
            self.log.append((start_ms, self._env.now, shape.tokens))
            self._deliver(batch, shape, start_ms, self._others(batch))

    def _others(self, batch: Batch) -> int:
        """Return the requests that the iteration has held up, less one: those in it, and all that wait at its end."""
        idle_decoding = len(self._decoding) - len(batch.decoding)
        idle_prefills = len(self._prefilling) - len(batch.prefills)
        return len(batch) + len(self._windows) + len(self._waiting) + idle_decoding + idle_prefills - 1

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.send(None, 0.0, LAST)
            self._idle = None

    def _next_batch(self) -> Batch:
        """Fill an iteration: windows in order of arrival, then cloud decoding, then prefill chunks in what is left."""
        room, budget = self._spec.max_sequences, self._spec.max_batch_tokens
        windows = []
        while self._windows and room and self._windows[0].drafted < budget:
            window = heapq.heappop(self._windows)
            windows.append(window)
            room, budget = room - 1, budget - window.drafted - 1
        decoding = self._next_decoding(min(room, budget // self._tokens_per_decode))
        room, budget = room - len(decoding), budget - len(decoding) * self._tokens_per_decode
        while self._waiting and self._waiting[0].kv_tokens <= self._kv_free:
            request = self._waiting.popleft()
            self._kv_free -= request.kv_tokens
            self._prefilling.append(request)
        prefills = []
        for request in self._prefilling:
            if not budget or not room:
                break
            chunk = min(budget, request.arrival.prompt_tokens - request.prefilled)
            prefills.append((request, chunk))
            room, budget = room - 1, budget - chunk
        return Batch(decoding, windows, prefills)

    def _next_decoding(self, room: int) -> list[Request]:
        """Return the streams that decode in the next iteration; where not all fit, they take turns."""
        decoding = list(self._decoding.values())
        if len(decoding) <= room:
            return decoding
        for request in decoding[:room]:
            del self._decoding[request.arrival.stream]
            self._decoding[request.arrival.stream] = request
        return decoding[:room]

    # --- what comes out -------------------------------------------------------------------------------------------

    def _deliver(self, batch: Batch, shape: Shape, start_ms: float, others: int) -> None:
        row = self._hardware
        report = Report(
            0.0,
            shape.total_ms,
            len(batch),
            shape.tokens,
            latency.added_tokens_ms(shape.tokens + 1, 1, row.token_ms, row.weights_ms, row.compute_ms),
            self.one_token_iteration_ms,
        )
        for request, chunk in batch.prefills:
            self._prefilled(request, chunk, report, start_ms)
        for window in batch.windows:
            self._verified(window, shape, report, start_ms, others)
        for request in batch.decoding:
            self._decoded(request, shape, report, others)

    def _prefilled(self, request: Request, chunk: int, report: Report, start_ms: float) -> None:
        if request.prefilled == 0:
            request.queued_ms = start_ms - request.queued_ms
        request.prefilled += chunk
        if request.prefilled == request.arrival.prompt_tokens:
            self._prefilling.remove(request)
            request.verified = 1
            self._send(request, 1, 0, report._replace(queue_wait_ms=request.queued_ms), 0.0, True)

    def _verified(self, window: Window, shape: Shape, report: Report, start_ms: float, others: int) -> None:
        """Accept the longest run of agreeing drafts; the target's own next token comes on top."""
        request = window.request
        accepted = accepted_run(request.tape.accepted, request.verified, window.drafted)
        accepted = min(accepted, request.arrival.output_tokens - request.verified)
        tokens = min(accepted + 1, request.arrival.output_tokens - request.verified)
        priced = self._externality_ms(request, window.drafted + 1, shape, others)
        request.verified += tokens
        self._send(request, tokens, accepted, report._replace(queue_wait_ms=start_ms - window.arrived_ms), priced, True)

    def _decoded(self, request: Request, shape: Shape, report: Report, others: int) -> None:
        """Add an iteration's tokens to the chunk; send it when it is full, or when this stream stops or ends."""
        accepted = accepted_run(request.tape.accepted, request.verified, self._tokens_per_decode - 1)
        tokens = min(accepted + 1, request.arrival.output_tokens - request.verified)
        if request.decoded_in_chunk == 0:
            request.externality_ms = 0.0
        request.externality_ms += self._externality_ms(request, self._tokens_per_decode, shape, others)
        request.verified += tokens
        request.decoded_in_chunk += tokens
        final = request.stopping or request.verified == request.arrival.output_tokens
        if final or request.decoded_in_chunk >= self._chunk_tokens:
            sent, request.decoded_in_chunk = request.decoded_in_chunk, 0
            if final:
                del self._decoding[request.arrival.stream]
            self._send(request, sent, 0, report, request.externality_ms, final)

    def _externality_ms(self, request: Request, tokens: int, shape: Shape, others: int) -> float:
        """Return what this request's presence in the iteration cost everybody else in it or waiting for it."""
        row = self._hardware
        added = latency.added_tokens_ms(shape.tokens, tokens, row.token_ms, row.weights_ms, row.compute_ms)
        added += row.attention_sequence_ms + row.attention_context_ms * request.context_tokens
        return latency.externality_ms(added, others)

    def _send(
        self, request: Request, tokens: int, accepted: int, report: Report, externality_ms: float, final: bool
    ) -> None:
        if request.verified == request.arrival.output_tokens:
            self._kv_free += request.kv_tokens
            self.live -= 1
        message_bytes = self._messages.header_bytes + self._messages.committed_token_bytes * tokens
        propagation_ms, transmission_ms = request.device.link.downlink(self._env.now, message_bytes)
        verdict = Verdict(tokens, accepted, report, externality_ms, propagation_ms, message_bytes, final)
        request.inbox.send(verdict, propagation_ms + transmission_ms)
