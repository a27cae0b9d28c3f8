"""The target's server: gRPC, health and metrics around one engine, from its start to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server

from dsd_gym.config import ConfigError
from runtime.target.access import Tokens, credentials
from runtime.target.engine import Engine
from runtime.target.metrics import Metrics
from runtime.target.options import ServerOptions
from runtime.target.service import TargetService
from runtime.wire.dsd_pb2_grpc import add_TargetServicer_to_server

__all__ = ["ServerOptions", "TargetServer", "serve_target"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SERVICE = "dsd.v1.Target"
TOKEN_BYTES = 5
"""Most bytes of a token id on the wire."""
LAST_WORDS_S = 0.5
"""How long the streams that a stop cuts off may take to say so."""
OTHER_BYTES = 16_384
"""More than all of a message but its token ids: a window's draft distributions are the most."""
IDLE_CONNECTION_MS = 300_000
HEALTH_S, FAILURES, REST_S = 1.0, 3, 30.0
"""How often the engine is looked at; how many passes in a row may fail before it counts as ill; and for how long after
the last of them, since a balancer that sends it nothing would never see it well again."""


class TargetServer:
    """Serves an engine that runs; ConfigError where the options do not allow it.

    server = TargetServer(engine, ServerOptions(listen="127.0.0.1:0"))
    await server.start()    # now `server.port` is known
    await server.drain()
    await server.stop()
    """

    def __init__(self, engine: Engine, options: ServerOptions) -> None:
        self._options = options
        self._credentials = credentials(options)
        tokens = Tokens.read(options.tokens) if options.tokens else None
        self._metrics = Metrics(engine)
        self._service = TargetService(engine, options, tokens, self._metrics)
        self._engine = engine
        self._health: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
        self._page: Any = None
        self._watch: asyncio.Task[None] | None = None
        self.port = 0
        """The port that it listens on."""
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Listen; ConfigError where the address cannot be had."""
        self._engine.observer = self._metrics.count_iteration
        server = self._server = grpc.aio.server(options=self._transport())
        add_TargetServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.port = self._bind(server)
        self._show_metrics()
        await server.start()
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        self._watch = asyncio.create_task(self._watched())

    async def _watched(self) -> None:
        """Say so while the engine does not run, or all that it tries fails."""
        engine, healthy, failed, failed_s = self._engine, True, 0, 0.0
        while True:
            await asyncio.sleep(HEALTH_S)
            if failed != (failed := engine.failed_passes):
                failed_s = time.monotonic()
            ill = engine.failures_in_a_row >= FAILURES and time.monotonic() - failed_s < REST_S
            if healthy != (healthy := engine.running and not ill):
                states = health_pb2.HealthCheckResponse
                await self._tell(states.SERVING if healthy else states.NOT_SERVING)

    async def _tell(self, state: Any) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, state)

    async def drain(self) -> None:
        """Take no new streams, and return when the running ones have ended or `grace_s` has passed."""
        self._end_watch()
        await self._health.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._service.drain(), self._options.grace_s)

    async def stop(self) -> None:
        """End at once; streams that are left are cut off."""
        self._end_watch()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._service.stop(), LAST_WORDS_S)
        if self._server is not None:
            await self._server.stop(LAST_WORDS_S)
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()
            self._page = None

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def _bind(self, server: grpc.aio.Server) -> int:
        listen = self._options.listen
        try:
            if self._credentials is None:
                return server.add_insecure_port(listen)
            return server.add_secure_port(listen, self._credentials)
        except RuntimeError:
            raise ConfigError(f"{listen}: cannot listen there: in use, or not an address of this machine") from None

    def _show_metrics(self) -> None:
        host, port = self._options.metrics_host, self._options.metrics_port
        if port is None:
            return
        try:
            self._page, _ = start_http_server(port, host, self._metrics.registry)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"{host}:{port}: cannot show metrics there: {error}") from None
        self.metrics_port = self._page.server_port

    def _transport(self) -> list[tuple[str, int]]:
        """Return gRPC's settings: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html."""
        keepalive_ms = int(1000 * self._options.keepalive_s)
        largest = OTHER_BYTES + TOKEN_BYTES * self._engine.limits.max_context_tokens
        return [
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent share of the streams
            ("grpc.max_receive_message_length", largest),
            ("grpc.max_send_message_length", largest),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message cannot unfold into a huge one
            ("grpc.keepalive_time_ms", keepalive_ms),
            ("grpc.keepalive_timeout_ms", keepalive_ms),
            ("grpc.http2.ping_timeout_ms", keepalive_ms),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.max_connection_idle_ms", IDLE_CONNECTION_MS),
            ("grpc.server_handshake_timeout_ms", keepalive_ms),
        ]


async def serve_target(engine: Engine, options: ServerOptions) -> None:
    """Serve an engine that runs until SIGTERM or SIGINT.

    Running sessions may end within `grace_s` then, unless a second signal ends them at once.
    """
    server = TargetServer(engine, options)
    loop, first, second = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, lambda: (second if first.is_set() else first).set())
    try:
        await server.start()
        host = options.listen.rpartition(":")[0]
        print(f"serving {engine.describe().model} on {host}:{server.port}", file=sys.stderr, flush=True)
        await first.wait()
        await _first_of(server.drain(), second.wait())
    finally:
        await server.stop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
