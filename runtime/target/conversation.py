"""One `Generate` stream: what the edge sends goes to the engine, what the engine delivers goes to the edge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc

from runtime.messages import PROTOCOL_VERSION, Finish, Refused, Verdict
from runtime.target.engine import Engine
from runtime.target.metrics import Metrics
from runtime.target.options import ServerOptions
from runtime.target.session import Session
from runtime.target.status import Abort
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import opening_from_wire, verdict_to_wire
from runtime.wire.metadata import ACCEPTED_KEY

END: Any = grpc.aio.EOF  # type: ignore[attr-defined]
Outgoing = Verdict | wire.TargetMessage | Exception
LINGER_S = 1.0
"""How long a stream stays open after its last verdict where the edge does not end it."""


class Conversation:
    """A stream from its first message to its end. The engine's session is freed however it ends."""

    def __init__(self, engine: Engine, context: Any, options: ServerOptions, metrics: Metrics) -> None:
        self._engine, self._context, self._options, self._metrics = engine, context, options, metrics
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Outgoing] = asyncio.Queue()
        self._failure: asyncio.Future[Abort] = self._loop.create_future()
        self._sending: asyncio.Future[None] | None = None
        self._session: Session | None = None
        self._asked_s: float | None = None
        """When the message arrived that the next verdict answers; None while the edge waits for none."""
        self._alive_s = time.monotonic()
        """Since when the target waits for a message of the edge's."""

    async def run(self) -> None:
        """Serve the stream until its request or its edge ends it; raises what ends it earlier."""
        try:
            await self._first_of(asyncio.ensure_future(self._open()))
            await self._first_of(*map(asyncio.ensure_future, (self._read(), self._write(), self._expire())))
        finally:
            if self._session is not None:
                self._engine.close(self._session)
            if self._sending is not None:  # gRPC takes no status before it is through
                await asyncio.wait([self._sending])

    def fail(self, failure: Abort) -> None:
        """End the stream, whatever it is doing."""
        if not self._failure.done():
            self._failure.set_result(failure)

    async def _first_of(self, *parts: asyncio.Future[None]) -> None:
        """Return when one of the parts does, or raise what it raises, or what the stream has failed of."""
        ends: list[asyncio.Future[Any]] = [self._failure, *parts]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                raise self._failure.result()
            for part in parts:
                if part.done():
                    part.result()
        finally:
            for part in parts:
                part.add_done_callback(_forget)
                part.cancel()
            await asyncio.wait(parts)  # none of them goes on behind the stream's end

    async def _open(self) -> None:
        """Take the first message; that the request is accepted goes back at once, before there is a token."""
        try:
            async with asyncio.timeout(self._options.idle_timeout_s):  # wait_for of 3.11 may overhear a cancellation
                message = await self._context.read()
        except TimeoutError:
            raise self._expired() from None
        self._asked_s = time.monotonic()
        if message is END:
            raise Refused("the stream ended before its first message")
        if message.WhichOneof("content") != "open":
            raise Refused("the first message of a stream is an Open")
        self._check_pair(message.open)
        opening = opening_from_wire(message.open)
        self._session = self._engine.open(opening, self._deliver)
        await self._context.send_initial_metadata(((ACCEPTED_KEY, str(self._engine.limits.max_window)),))

    def _check_pair(self, message: wire.Open) -> None:
        ours = self._engine.describe()
        wrong = None
        if message.protocol_version != PROTOCOL_VERSION:
            wrong = f"protocol version {message.protocol_version}; this target speaks {PROTOCOL_VERSION}"
        elif message.tokenizer != ours.tokenizer:
            wrong = f"the draft's vocabulary is not that of the target {ours.model}; a pair shares one"
        if wrong:
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "wrong_pair", wrong)

    # --- from the edge ------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while (message := await self._context.read()) is not END:
            self._alive_s = time.monotonic()
            self._take(message)

    def _take(self, message: wire.EdgeMessage) -> None:
        assert self._session is not None
        match message.WhichOneof("content"):
            case "window":
                window = message.window
                self._engine.verify(self._session, window.position, tuple(window.tokens), window.draft_probs)
                self._asked_s = self._alive_s
            case "decode":
                self._engine.decode(self._session, message.decode.position)
            case "stop":
                self._engine.stop_decoding(self._session)
            case "ping":
                self._put(wire.TargetMessage(pong=wire.Pong(id=message.ping.id)))
            case "open":
                raise Refused("a stream is opened once")
            case _:
                raise Refused("a message without content, or of a kind that this target does not know")

    async def _expire(self) -> None:
        """End a session whose edge leaves the target waiting."""
        idle_s = self._options.idle_timeout_s
        while True:
            now_s = time.monotonic()
            left_s = idle_s if self._asked_s is not None else self._alive_s + idle_s - now_s
            if left_s <= 0:
                raise self._expired()
            await asyncio.sleep(left_s)

    def _expired(self) -> Abort:
        waited = f"no message from the edge for {self._options.idle_timeout_s:g} s"
        return Abort(grpc.StatusCode.ABORTED, "idle", waited)

    # --- to the edge --------------------------------------------------------------------------------------------

    def _deliver(self, verdict: Verdict | Exception) -> None:
        """Take a message from the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
            self._loop.call_soon_threadsafe(self._put, verdict)

    def _put(self, message: Outgoing) -> None:
        """Queue a message; an edge that does not read what it asked for loses its session."""
        if self._outbox.qsize() < self._options.max_unsent_messages:
            self._outbox.put_nowait(message)
        else:
            unread = f"the edge left {self._options.max_unsent_messages} messages unread"
            self.fail(Abort(grpc.StatusCode.ABORTED, "unread", unread))

    async def _write(self) -> None:
        finish: Finish = ""
        while not finish:
            message = await self._outbox.get()
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Verdict):
                finish = message.finish
                message = self._stamped(message)
            self._sending = asyncio.ensure_future(self._context.write(message))
            self._sending.add_done_callback(_forget)
            await asyncio.shield(self._sending)
            self._sending = None
        await asyncio.sleep(LINGER_S)  # the edge ends the call: what it still sends would fail on one that has ended

    def _stamped(self, verdict: Verdict) -> wire.TargetMessage:
        """Return a verdict for the wire, with the ms since the arrival of what it answers; 0 in a chunk."""
        self._metrics.count_verdict(verdict)
        now_s, asked_s = time.monotonic(), self._asked_s
        if verdict.final:
            self._alive_s = now_s
        self._asked_s = None
        target_ms = 0.0 if asked_s is None else 1000.0 * (now_s - asked_s)
        return verdict_to_wire(verdict._replace(target_ms=target_ms))


def _forget(task: asyncio.Future[None]) -> None:
    """Take the outcome of a part that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
