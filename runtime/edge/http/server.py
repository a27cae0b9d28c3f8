"""An ASGI application on a port, beside other tasks of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from dsd_gym.config import ConfigError

GRACE_S = 5
"""How long requests may go on after the server is told to end."""


class _Server(uvicorn.Server):
    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals to the process, which has more to end than this server."""
        return contextlib.nullcontext()


async def serve_http(
    app: ASGIApp, host: str, port: int, ready: Callable[[int], None] | None = None, grace_s: int = GRACE_S
) -> None:
    """Serve until cancelled; then take nothing new, and give running requests `grace_s` seconds to end.

    Args:
        app: what is served.
        host: an address of this machine.
        port: 0 for any that is free.
        ready: called with the port once connections are taken.
        grace_s: seconds.

    Raises:
        ConfigError: the port cannot be had.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=grace_s,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        if ready is not None:
            ready(listener.getsockname()[1])  # it listens already: who comes early waits
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        if cut_off := set(server.server_state.tasks):  # uvicorn cancels these, and would not see them end
            await asyncio.wait(cut_off)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not `socket.create_server`, which leaves the protocol unnamed: asyncio would then leave Nagle's algorithm on, and
    # that holds an event of a stream back for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"{host}:{port}: cannot be listened on: {error}") from None
    return listener
