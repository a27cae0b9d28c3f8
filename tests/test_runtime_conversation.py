"""One stream at the target, whatever it has come to when its edge goes."""

from __future__ import annotations

import asyncio
from typing import Any

from runtime.target.conversation import Conversation
from runtime.target.engine import Engine
from runtime.target.metrics import Metrics
from runtime.target.server import ServerOptions
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import opening_to_wire
from tests.target_serving import TOKENIZER, request, started, until


class Cancelled:
    """gRPC's side of a stream whose edge sends its first message and then goes."""

    def __init__(self, message: wire.EdgeMessage) -> None:
        self._messages = [message]
        self.sent = asyncio.Event()

    async def read(self) -> wire.EdgeMessage:
        """Return the message when it is sent, and never another."""
        await self.sent.wait()
        if not self._messages:
            await asyncio.sleep(60)
        return self._messages.pop()

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Take a moment."""
        await asyncio.sleep(0)

    async def write(self, message: Any) -> None:
        """Take a moment."""
        await asyncio.sleep(0)


def test_an_edge_that_goes_right_after_its_first_message_leaves_nothing_behind() -> None:
    async def run(engine: Engine) -> None:
        for moments in range(12):  # whatever the stream has come to when the cancellation arrives
            context = Cancelled(opening_to_wire(request(60), TOKENIZER))
            conversation = Conversation(engine, context, ServerOptions(), Metrics(engine))
            running = asyncio.create_task(conversation.run())
            await asyncio.sleep(0.01)
            context.sent.set()
            for _ in range(moments):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await until(lambda: engine.sessions == engine.kv_tokens_used == 0)

    with started() as engine:
        asyncio.run(run(engine))
