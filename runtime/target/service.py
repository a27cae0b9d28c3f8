"""The `Target` service: who is let in, and how what goes wrong is said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import grpc

from runtime.messages import Busy
from runtime.target.access import Tokens, host_of
from runtime.target.conversation import Conversation
from runtime.target.engine import Engine
from runtime.target.metrics import Metrics
from runtime.target.options import ServerOptions
from runtime.target.status import Abort, abort_for, end
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import description_to_wire
from runtime.wire.dsd_pb2_grpc import TargetServicer

FULL_RETRY_MS = 500.0
"""The hint where a number of streams is the limit: how soon one ends is not known."""

_log = logging.getLogger(__name__)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Return False for gRPC's reports of edges that left at an awkward moment: an edge may."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError | grpc.aio.InternalError)


logging.getLogger("grpc._cython.cygrpc").addFilter(_worth_a_line)


class TargetService(TargetServicer):
    """One engine's service; each `Generate` stream is a `Conversation`."""

    def __init__(self, engine: Engine, options: ServerOptions, tokens: Tokens | None, metrics: Metrics) -> None:
        self._engine, self._options, self._tokens, self._metrics = engine, options, tokens, metrics
        self._clients: dict[Conversation, str] = {}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def Describe(self, request: wire.DescribeRequest, context: Any) -> wire.Description:
        """Say what the target is."""
        try:
            self._identify(context)
            return description_to_wire(self._engine.describe())
        except Exception as error:
            await self._end(context, error)
            raise

    async def Generate(self, requests: Any, context: Any) -> None:
        """Serve one request."""
        try:
            conversation = await self._admitted(context)
            try:
                await conversation.run()
            finally:
                self._leave(conversation)
        except grpc.aio.BaseError:
            raise  # the call is over: there is nobody to tell
        except Exception as error:
            await self._end(context, error)

    async def drain(self) -> None:
        """Refuse new streams, and return when the last one has ended."""
        self._draining = True
        await self._empty.wait()

    async def stop(self) -> None:
        """End all streams, and return when they have."""
        for conversation in self._clients:
            conversation.fail(Abort(grpc.StatusCode.UNAVAILABLE, "stopped", "the target has stopped"))
        await self.drain()

    def _identify(self, context: Any) -> str:
        """Return who calls: the holder of the token, or the peer's address where there are no tokens."""
        if self._tokens is None:
            return host_of(context.peer())
        holder = self._tokens.holder(context.invocation_metadata())
        if holder is None:
            raise Abort(grpc.StatusCode.UNAUTHENTICATED, "unauthenticated", "a bearer token of this target is needed")
        return holder

    async def _admitted(self, context: Any) -> Conversation:
        """Let a client in, or turn it away once its first message is there.

        A gRPC client that still writes when its stream ends never learns with what status.
        """
        try:
            return self._admit(context)
        except (Abort, Busy):
            with suppress(TimeoutError):
                await asyncio.wait_for(context.read(), self._options.keepalive_s)
            raise

    def _admit(self, context: Any) -> Conversation:
        """Return a new conversation with a client that may have one more."""
        client = self._identify(context)
        if self._draining:
            raise Abort(grpc.StatusCode.UNAVAILABLE, "draining", "the target is shutting down")
        if len(self._clients) >= self._options.max_streams:
            raise Busy(f"the target serves {self._options.max_streams} streams already", FULL_RETRY_MS)
        if list(self._clients.values()).count(client) >= self._options.max_sessions_per_client:
            most = f"{client} has {self._options.max_sessions_per_client} sessions already, as many as a client may"
            raise Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "sessions_per_client", most, FULL_RETRY_MS)
        conversation = Conversation(self._engine, context, self._options, self._metrics)
        self._clients[conversation] = client
        self._empty.clear()
        return conversation

    def _leave(self, conversation: Conversation) -> None:
        del self._clients[conversation]
        if not self._clients:
            self._empty.set()

    async def _end(self, context: Any, error: Exception) -> None:
        abort = abort_for(error)
        if abort.code is grpc.StatusCode.UNKNOWN:
            _log.error("a stream failed", exc_info=error)
        self._metrics.count_refusal(abort.reason)
        await end(context, abort)
