"""A target on a bench: requests put in by hand or by edges that follow a script, and what they were sent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import cycle
from typing import Any

import simpy

from dsd_gym.acceptance import Tape
from dsd_gym.device import Device
from dsd_gym.hardware import TargetHardware
from dsd_gym.messages import Inbox, call_later
from dsd_gym.network import Link
from dsd_gym.request import Request
from dsd_gym.scenario import LinkSpec, Messages, Slo, TargetClass
from dsd_gym.stream_view import StreamView
from dsd_gym.target import TargetServer, Verdict
from dsd_gym.target.batch import CloudDraft
from dsd_gym.workload import Arrival

FREE = Messages(prompt_token_bytes=0, header_bytes=0, committed_token_bytes=0)
# Powers of two, so that times are exact. A pass: 2 + n/8 + max(4, n/4) + 1/2 + B/4 + C/1024.
_COSTS = (2.0, 0.125, 4.0, 0.25, 0.5, 0.25, 2.0**-10, 1.0, 2.0**-6, 2.0**-16)
ROW = TargetHardware("bench", "model", 1, *_COSTS, 1, 1, 1.0, 10**6, "assumed")


Life = Generator[simpy.Event, Any, None]


class Bench:
    """One target, requests put in by hand, and what they were sent: (ms, verdict) by stream."""

    def __init__(self, chunk_tokens: int = 1, draft_window: int = 0, row: TargetHardware = ROW, **target: Any) -> None:
        self.env = simpy.Environment()
        draft = CloudDraft(row, draft_window) if draft_window else None
        self.passes: list[tuple[float, float, int, int]] = []
        """(start_ms, end_ms, tokens, preemptions)."""
        self.target = TargetServer(self.env, TargetClass(**target), row, FREE, chunk_tokens, draft, self.passes)
        self.sent: dict[int, list[tuple[float, Verdict]]] = {}

    def request(
        self,
        stream: int,
        prompt: int = 1024,
        output: int = 1000,
        accept: bool = True,
        prefilled: bool = True,
        listen: bool = True,
        **terms: Any,
    ) -> Request:
        """Return a request at time 0, whose prompt is prefilled already unless told; `terms`: slo, priority."""
        link = Link(LinkSpec(rtt_ms=0, jitter_ms=0), 0, stream)
        device = Device(stream, 0, 1.0, 0.0, link)
        tape, view = Tape([accept] * (output + 16), [0.5] * (output + 16)), StreamView(device.estimate, 1.0, 0.0)
        arrival = Arrival(stream, 0.0, prompt, output, stream)
        request = Request(arrival, device, self.target, tape, Inbox(self.env), view, **({"slo": Slo()} | terms))
        if prefilled:
            request.prefilled, request.verified = prompt, 1
        self.target.live += 1
        if listen:
            self.env.process(self._listen(request))
        return request

    def _listen(self, request: Request) -> Life:
        while True:
            verdict = yield request.inbox.receive()
            self.sent.setdefault(request.arrival.stream, []).append((self.env.now, verdict))

    def live(self, request: Request, start_ms: float, windows: Sequence[int], draft_ms: float = 2.0) -> None:
        """Let an edge live through a request: its prompt, then these windows over and over (0: a cloud chunk)."""
        self.env.process(self._live(request, start_ms, windows, draft_ms))

    def _live(self, request: Request, start_ms: float, windows: Sequence[int], draft_ms: float) -> Life:
        yield self.env.timeout(start_ms)
        assert self.target.admit(request)
        yield from self._receive(request)
        for window in cycle(windows):
            if request.finished:
                return
            yield self.env.timeout(draft_ms * (window + 1))
            if window:
                self.target.verify(request, window)
                yield from self._receive(request)
                continue
            self.target.decode(request)
            yield from self._receive(request)
            self.target.stop(request)
            while not self.sent[request.arrival.stream][-1][1].final:
                yield from self._receive(request)

    def _receive(self, request: Request) -> Life:
        verdict = yield request.inbox.receive()
        request.committed += verdict.tokens
        self.sent.setdefault(request.arrival.stream, []).append((self.env.now, verdict))

    def at(self, ms: float, action: Callable[..., object], *arguments: object) -> None:
        """Do something later."""
        call_later(self.env, ms, lambda: action(*arguments))

    def ends(self) -> list[float]:
        """Return when passes ended."""
        return [end_ms for _, end_ms, *_ in self.passes]

    def tokens(self) -> list[int]:
        """Return the tokens of passes."""
        return [tokens for _, _, tokens, _ in self.passes]
