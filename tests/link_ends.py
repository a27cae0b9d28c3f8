"""
Both ends of an emulated link, as plain blocking sockets.

A loaded machine lengthens what is timed and never shortens it: bounds are held against the least of several times.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dsd_gym.scenario import LinkSpec
from runtime.link import EmulatedLink

FAST = LinkSpec(rtt_ms=20, jitter_ms=0, up_mbps=1000, down_mbps=1000)
Life = Callable[[socket.socket], None]


def echo(connection: socket.socket) -> None:
    """Send back whatever comes."""
    while data := connection.recv(65536):
        connection.sendall(data)


@contextmanager
def serving(life: Life) -> Iterator[tuple[str, int]]:
    """Serve each connection in a thread with a function of its socket; yield the address."""

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            life(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)  # ends the accept of the other thread


@contextmanager
def linked(
    life: Life, spec: LinkSpec = FAST, loss: float = 0.0, seed: int = 0
) -> Iterator[tuple[EmulatedLink, socket.socket]]:
    """Yield a link to a target that lives so, and a connection over it."""
    with (
        serving(life) as to,
        EmulatedLink(to, spec, loss=loss, seed=seed).in_thread() as link,
        connect(link.port) as edge,
    ):
        yield link, edge


def connect(port: int) -> socket.socket:
    """Return a new connection that gives up after 20 s of silence."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes, fewer where the connection ends before."""
    data = bytearray()
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return bytes(data)


def ping_ms(connection: socket.socket) -> float:
    """Return what four bytes take to an echo and back."""
    began = time.perf_counter()
    connection.sendall(b"ping")
    assert receive(connection, 4) == b"ping"
    return 1000.0 * (time.perf_counter() - began)


def best_ping_ms(connection: socket.socket, count: int = 20) -> float:
    """Return the least of several pings."""
    return min(ping_ms(connection) for _ in range(count))
