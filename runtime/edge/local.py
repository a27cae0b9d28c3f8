"""A target in the same process: the engine without a network between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtime.messages import Description, Opening, Verdict
from runtime.target.engine import Engine
from runtime.target.session import Session
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import opening_to_wire, verdict_to_wire


class LocalTarget:
    """A `messages.Target` around an engine that runs; its streams belong to the event loop that opened them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def describe(self) -> Description:
        """Return what the target says of itself."""
        return self._engine.describe()

    async def open(self, opening: Opening) -> LocalStream:
        """Begin a request."""
        return LocalStream(self._engine, opening)


class LocalStream:
    """One request's conversation; bytes are counted as the messages of `wire/dsd.proto` would have them."""

    def __init__(self, engine: Engine, opening: Opening) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Verdict | Exception] = asyncio.Queue()
        self.uplink_bytes = opening_to_wire(opening, engine.describe().tokenizer).ByteSize()
        self.downlink_bytes = 0
        self.max_window = engine.limits.max_window
        self._session: Session = engine.open(opening, self._deliver)

    async def verify(self, position: int, tokens: Sequence[int], draft_probs: bytes) -> None:
        """Send a window."""
        self._engine.verify(self._session, position, tokens, draft_probs)
        self._sent(wire.EdgeMessage(window=wire.Window(position=position, tokens=tokens, draft_probs=draft_probs)))

    async def decode(self, position: int) -> None:
        """Let the target decode on its own."""
        self._engine.decode(self._session, position)
        self._sent(wire.EdgeMessage(decode=wire.Decode(position=position)))

    async def stop(self) -> None:
        """End cloud decoding."""
        self._engine.stop_decoding(self._session)
        self._sent(wire.EdgeMessage(stop=wire.Stop()))

    async def receive(self) -> Verdict:
        """Return the next message; an error ends the conversation and is raised again by every later call."""
        message = await self._inbox.get()
        if isinstance(message, Exception):
            self._inbox.put_nowait(message)
            raise message
        self.downlink_bytes += verdict_to_wire(message).ByteSize()
        return message

    async def ping(self) -> float:
        """Return 0: there is nothing to cross."""
        return 0.0

    async def close(self) -> None:
        """End the conversation."""
        self._engine.close(self._session)

    def _deliver(self, message: Verdict | Exception) -> None:
        """Hand a message from the engine's thread over to the loop."""
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, message)

    def _sent(self, message: wire.EdgeMessage) -> None:
        self.uplink_bytes += message.ByteSize()
