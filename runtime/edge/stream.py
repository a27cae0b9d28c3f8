"""One request's conversation with a target over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from runtime.edge.channel import failure_of
from runtime.messages import Disconnected, Verdict
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import verdict_from_wire
from runtime.wire.metadata import ACCEPTED_KEY

END: Any = grpc.aio.EOF  # type: ignore[attr-defined]
FRAME_BYTES = 5
"""gRPC's frame around a message."""


class RemoteStream:
    """`messages.Stream` over a call. A task of its own reads, so that pings are timed whoever waits for what."""

    def __init__(self, call: Any, silence_timeout_s: float, lost: Callable[[], None]) -> None:
        self.uplink_bytes = self.downlink_bytes = self.max_window = 0
        self._call, self._silence_s, self._lost = call, silence_timeout_s, lost
        self._inbox: asyncio.Queue[Verdict | None] = asyncio.Queue()
        """None when nothing more will come."""
        self._failure: Exception | None = None
        self._writing = asyncio.Lock()  # gRPC takes one message at a time
        self._heard_s = time.monotonic()
        self._pings: dict[int, asyncio.Future[float]] = {}
        self._ping_id = 0
        self._reader: asyncio.Task[None] | None = None

    async def begin(self, opening: wire.EdgeMessage) -> None:
        """Send the first message, and return when the target has accepted it."""
        await self._send(opening)
        accepted = dict(await self._call.initial_metadata() or ()).get(ACCEPTED_KEY)
        if accepted is None:
            raise await self._failed()
        self.max_window = int(accepted)
        self._reader = asyncio.create_task(self._read())

    async def verify(self, position: int, tokens: Sequence[int], draft_probs: bytes) -> None:
        """Send a window; `draft_probs` is empty where tokens are chosen greedily."""
        window = wire.Window(position=position, tokens=tokens, draft_probs=draft_probs)
        await self._send(wire.EdgeMessage(window=window))

    async def decode(self, position: int) -> None:
        """Let the target decode on its own until `stop`."""
        await self._send(wire.EdgeMessage(decode=wire.Decode(position=position)))

    async def stop(self) -> None:
        """End cloud decoding; the last chunk to come has `final` set."""
        await self._send(wire.EdgeMessage(stop=wire.Stop()))

    async def receive(self) -> Verdict:
        """Return the next message. A target that answers pings may take its time; a silent one is `Disconnected`."""
        began_s = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(self._silence_s / 2):
                    return self._next(await self._inbox.get())
            except TimeoutError:
                silent_s = time.monotonic() - max(began_s, self._heard_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(self._silence_s - silent_s, 0.0)):
                        await self._echo()
                        continue
                raise self._fall_silent() from None

    async def ping(self) -> float:
        """Return the ms of one round trip; other messages may be under way meanwhile."""
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._echo()
        except TimeoutError:
            raise self._fall_silent() from None

    async def close(self) -> None:
        """End the conversation. Never raises."""
        self._end(Disconnected("the stream is closed"))
        self._call.cancel()
        if self._reader is not None:
            self._reader.cancel()

    # --- below the messages ---------------------------------------------------------------------------------------

    async def _send(self, message: wire.EdgeMessage) -> None:
        """Send a message. What crosses the end of the call is no fault while there is something left to receive."""
        if self._failure is None:
            try:
                async with self._writing:
                    await self._call.write(message)
                self.uplink_bytes += message.ByteSize() + FRAME_BYTES
                return
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await (asyncio.wait([self._reader]) if self._reader else self._failed())
        assert self._failure is not None
        if self._inbox.qsize() <= 1:  # its last item tells the end
            raise self._failure from None

    async def _echo(self) -> float:
        if self._failure is not None:
            raise self._failure
        self._ping_id += 1
        number, began_s = self._ping_id, time.monotonic()
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_forget)
        self._pings[number] = answer
        sent = asyncio.ensure_future(self._send(wire.EdgeMessage(ping=wire.Ping(id=number))))
        sent.add_done_callback(_forget)
        try:
            await asyncio.shield(sent)  # gRPC ends a call whose write is cancelled, and a ping may well be
            return 1000.0 * (await answer - began_s)
        finally:
            self._pings.pop(number, None)

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not END:
                self._heard_s = time.monotonic()
                self.downlink_bytes += message.ByteSize() + FRAME_BYTES
                if message.HasField("verdict"):
                    self._inbox.put_nowait(verdict_from_wire(message.verdict))
                elif message.pong.id in self._pings and not self._pings[message.pong.id].done():
                    self._pings[message.pong.id].set_result(self._heard_s)
        except grpc.aio.AioRpcError:
            pass  # its status says why, as after the last message
        await self._failed()

    def _next(self, verdict: Verdict | None) -> Verdict:
        if verdict is None:
            self._inbox.put_nowait(None)
            assert self._failure is not None
            raise self._failure
        return verdict

    async def _failed(self) -> Exception:
        """Return what ended the call; nothing more comes."""
        failure = await failure_of(self._call)
        if isinstance(failure, Disconnected) and await self._call.code() is not grpc.StatusCode.OK:
            self._lost()
        return self._end(failure)

    def _fall_silent(self) -> Exception:
        self._call.cancel()
        self._lost()
        return self._end(Disconnected(f"nothing heard from the target for {self._silence_s:g} s"))

    def _end(self, failure: Exception) -> Exception:
        """Let everyone who waits know, and return the first reason there was."""
        if self._failure is None:
            self._failure = failure
            self._inbox.put_nowait(None)
            for answer in self._pings.values():
                if not answer.done():
                    answer.set_exception(failure)
        return self._failure


def _forget(part: asyncio.Future[Any]) -> None:
    """Take the outcome of a part of a ping that nobody waits for any more, so that asyncio does not report it."""
    if not part.cancelled():
        part.exception()
