"""What comes out of a pass, and is sent to the edges."""

from __future__ import annotations

from typing import NamedTuple

import simpy

from dsd_gym import latency
from dsd_gym.acceptance import accepted_run
from dsd_gym.observation import Report
from dsd_gym.request import Request
from dsd_gym.scenario import Messages
from dsd_gym.target.batch import Batch, PassCosts, Shape, Window
from dsd_gym.target.memory import Memory
from dsd_gym.target.queues import Queues


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


class Outcomes:
    """Turns passes into verdicts."""

    def __init__(
        self,
        env: simpy.Environment,
        costs: PassCosts,
        messages: Messages,
        chunk_tokens: int,
        queues: Queues,
        memory: Memory,
    ) -> None:
        self._env, self._costs, self._messages, self._chunk_tokens = env, costs, messages, chunk_tokens
        self._queues, self._memory = queues, memory
        self._tokens_per_decode = 1 + costs.draft_window
        self._one_token_ms = costs.target.one_token_iteration_ms + costs.host_ms

    def deliver(self, batch: Batch, shape: Shape, start_ms: float) -> int:
        """Send what an iteration has brought; return the number of requests that have their last token."""
        marginal_ms = self._costs.target.added_tokens_ms(shape.tokens + 1, 1)
        self._start_ms, self._shape, self._others = start_ms, shape, self._queues.others(batch)
        self._report = Report(0.0, shape.total_ms, len(batch), shape.tokens, marginal_ms, self._one_token_ms)
        self._added_ms: dict[int, float] = {}
        self._streams, self._context_tokens = len(batch.decoding), 0
        if self._costs.draft:
            self._context_tokens = sum(request.context_tokens for request in batch.decoding)
        self._ended = 0
        for request, chunk in batch.prefills:
            self._prefilled(request, chunk)
        for window in batch.windows:
            self._verified(window)
        for request in batch.decoding:
            self._decoded(request)
        return self._ended

    def _prefilled(self, request: Request, chunk: int) -> None:
        """Go on with a prefill; at the end of the first one, send the first token."""
        if request.prefilled == 0 and not request.verified:
            request.queued_ms = self._start_ms - request.queued_ms
        request.prefilled += chunk
        if request.prefilled < request.prefill_tokens:
            return
        self._queues.remove_prefilling(request)
        if request.verified:
            self._queues.preempted -= 1
            return
        request.verified = 1
        self._send(request, 1, 0, self._report._replace(queue_wait_ms=request.queued_ms), 0.0, True)

    def _verified(self, window: Window) -> None:
        """Accept the longest run of agreeing drafts; the target's own next token comes on top."""
        _, arrived_ms, _, drafted, request = window
        verified = request.verified
        missing = request.arrival.output_tokens - verified
        accepted = min(accepted_run(request.tape.accepted, verified, drafted), missing)
        tokens = min(accepted + 1, missing)
        padding = self._shape.padding
        externality_ms = self._externality_ms(request, padding.added_tokens(drafted + 1) if padding else drafted + 1)
        request.verified = verified + tokens
        _, pass_ms, batch_size, pass_tokens, marginal_ms, one_token_ms = self._report
        report = Report(self._start_ms - arrived_ms, pass_ms, batch_size, pass_tokens, marginal_ms, one_token_ms)
        self._send(request, tokens, accepted, report, externality_ms, True)

    def _decoded(self, request: Request) -> None:
        """Add an iteration's tokens to the chunk; send it when it is full, or when this stream stops or ends."""
        accepted = accepted_run(request.tape.accepted, request.verified, self._tokens_per_decode - 1)
        tokens = min(accepted + 1, request.arrival.output_tokens - request.verified)
        if request.decoded_in_chunk == 0:
            request.externality_ms = 0.0
        request.externality_ms += self._externality_ms(request, self._tokens_per_decode)
        request.externality_ms += latency.externality_ms(self._cloud_draft_ms(request), self._others)
        request.verified += tokens
        request.decoded_in_chunk += tokens
        final = request.stopping or request.verified == request.arrival.output_tokens
        if not final and request.decoded_in_chunk < self._chunk_tokens:
            if not self._memory.fixed:
                self._memory.settle(request)
            return
        sent, request.decoded_in_chunk = request.decoded_in_chunk, 0
        if final:
            del self._queues.decoding[request.arrival.stream]
        self._send(request, sent, 0, self._report, request.externality_ms, final)

    def _externality_ms(self, request: Request, tokens: int) -> float:
        """Return what this request's presence in the iteration cost everybody else in it or waiting for it."""
        row, added_ms = self._costs.row, self._added_ms.get(tokens)
        if added_ms is None:  # many windows of a pass are equally long
            added_ms = self._added_ms[tokens] = self._costs.target.added_tokens_ms(self._shape.tokens, tokens)
        own_ms = added_ms + (row.attention_sequence_ms + row.attention_context_ms * request.context_tokens)
        return latency.externality_ms(own_ms, self._others)

    def _cloud_draft_ms(self, request: Request) -> float:
        """Return what this request's stream added to the passes of the draft beside the target."""
        draft, streams, context_tokens = self._costs.draft, self._streams, self._context_tokens
        if draft is None:
            return 0.0
        with_ms = draft.iteration_ms(streams, streams, context_tokens)
        if streams == 1:
            return self._costs.draft_window * with_ms
        without_ms = draft.iteration_ms(streams - 1, streams - 1, context_tokens - request.context_tokens)
        return self._costs.draft_window * (with_ms - without_ms)

    def _send(
        self, request: Request, tokens: int, accepted: int, report: Report, externality_ms: float, final: bool
    ) -> None:
        if request.verified == request.arrival.output_tokens:
            self._memory.release(request)
            self._ended += 1
        elif not self._memory.fixed:
            self._memory.settle(request)
        message_bytes = self._messages.header_bytes + self._messages.committed_token_bytes * tokens
        propagation_ms, transmission_ms = request.link.downlink(self._env.now, message_bytes)
        verdict = Verdict(tokens, accepted, report, externality_ms, propagation_ms, message_bytes, final)
        request.inbox.send(verdict, propagation_ms + transmission_ms)
