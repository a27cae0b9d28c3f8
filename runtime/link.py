"""A link between edge and target on one machine: a TCP relay that delays, narrows, holds and breaks.

python -m runtime.link --listen 127.0.0.1:7000 --to 127.0.0.1:8000 --rtt-ms 80 --jitter-ms 5 --loss 0.01

Delay, jitter, bandwidth, regimes, traces, outages and hand-over are those of the simulator's links
(`dsd_gym.network`); their clock starts as the link is made. Here bytes always queue: all connections share each
direction's bandwidth. Loss shows as TCP shows it, as a delay of a chunk and of all that follows in its connection: one
round trip where enough later data is on its way (fast retransmit), else a timeout. A new connection waits one round
trip, as for a handshake. Not modelled: slow start, the congestion window, and timeouts that double.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread

from dsd_gym.config import ConfigError
from dsd_gym.files import Parser, exits_cleanly
from dsd_gym.scenario import LinkSpec
from runtime.address import address, host_and_port
from runtime.link_conditions import CHUNK_BYTES, Conditions, Direction, Pipe, make_loop

Address = tuple[str, int]
ANY_PORT: Address = ("127.0.0.1", 0)


class EmulatedLink(Conditions):
    """A relay from `port` to the address `to`; `change`, `cut`, `refuse` and `break_connections` work from any thread.

    `async with EmulatedLink(...)` runs it in the caller's event loop, whose timers round up to whole ms on Linux.
    `with EmulatedLink(...).in_thread()` and the command line have a loop with finer timers.
    """

    def __init__(
        self, to: Address, spec: LinkSpec, *, loss: float | None = None, seed: int = 0, listen: Address = ANY_PORT
    ) -> None:
        super().__init__(spec, loss, seed)
        self.port = 0
        """Where it listens, once started."""
        self.refuse = False
        """Whether new connections are reset; those that exist go on."""
        self._to, self._listen = to, listen
        self._ways = Direction(self, up=True), Direction(self, up=False)
        self._connections: dict[asyncio.Task[None], tuple[Pipe, Pipe]] = {}

    async def start(self) -> None:
        """Begin to listen; OSError where that cannot be."""
        family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
        self._listener = socket.create_server(self._listen, family=family, backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await asyncio.sleep(0)  # who is cancelled before it begins does not clean up
        self._cancel_all()
        await asyncio.gather(*self._connections)

    async def __aenter__(self) -> EmulatedLink:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextmanager
    def in_thread(self) -> Iterator[EmulatedLink]:
        """Run it in a thread of its own; beside Python code that computes, the command line is more exact."""
        loops: SimpleQueue[asyncio.AbstractEventLoop] = SimpleQueue()

        def live() -> None:
            with asyncio.Runner(loop_factory=make_loop) as runner:
                loops.put(runner.get_loop())
                runner.get_loop().run_forever()

        thread = Thread(target=live, name="link", daemon=True)
        thread.start()
        loop = loops.get()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result()
            try:
                yield self
            finally:
                asyncio.run_coroutine_threadsafe(self.close(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def break_connections(self) -> None:
        """Reset every connection at both ends; what is on its way is lost."""
        self._loop.call_soon_threadsafe(self._cancel_all)

    def _cancel_all(self) -> None:
        for task in self._connections:
            task.cancel()

    @property
    def connections(self) -> int:
        """Return how many connections there are."""
        return len(self._connections)

    @property
    def held_bytes(self) -> int:
        """Return the bytes on their way."""
        return sum(pipe.held_bytes for pipes in list(self._connections.values()) for pipe in pipes)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        if self.refuse:
            _reset_on_close(near)
            near.close()
            return
        pipes = Pipe(self, self._ways[0]), Pipe(self, self._ways[1])
        task = self._loop.create_task(self._relay(near, *pipes))
        self._connections[task] = pipes
        task.add_done_callback(self._connections.pop)

    async def _relay(self, near: socket.socket, up: Pipe, down: Pipe) -> None:
        """Serve one connection until both directions have ended or it is reset."""
        ends: list[asyncio.StreamWriter] = []
        try:
            reader, writer = await asyncio.open_connection(sock=near, limit=CHUNK_BYTES)  # asyncio sets TCP_NODELAY
            ends.append(writer)
            await self.reach(self.now_ms + self.link.spec.rtt_ms)
            far_reader, far_writer = await asyncio.open_connection(*self._to, limit=CHUNK_BYTES)
            ends.append(far_writer)
            async with asyncio.TaskGroup() as group:
                for work in (up.fill(reader), up.drain(far_writer), down.fill(far_reader), down.drain(writer)):
                    group.create_task(work)
            for end in ends:
                end.close()
        except* (OSError, asyncio.CancelledError):
            for end in ends:
                _reset_on_close(end.get_extra_info("socket"))
                end.transport.abort()


def _reset_on_close(connection: socket.socket | TransportSocket) -> None:
    """Make closing send RST instead of FIN."""
    with suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Run a link until it is interrupted."""
    options = _parser().parse_args(arguments)
    numbers = {name: getattr(options, name) for name in ("rtt_ms", "jitter_ms", "up_mbps", "down_mbps")}
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(_run(options, {name: number for name, number in numbers.items() if number is not None}))


async def _run(options: argparse.Namespace, numbers: dict[str, float]) -> None:
    spec = LinkSpec(trace=options.trace, trace_shift=False)
    link = EmulatedLink(options.to, spec, loss=options.loss, seed=options.seed, listen=options.listen)
    link.change(**numbers)
    try:
        await asyncio.get_running_loop().getaddrinfo(*options.to)
    except OSError as error:
        raise ConfigError(f"--to {options.to[0]}: {error.strerror}") from None
    try:
        await link.start()
    except OSError as error:
        raise ConfigError(f"--listen {options.listen[0]}:{options.listen[1]}: {error.strerror}") from None
    print(f"{options.listen[0]}:{link.port} -> {options.to[0]}:{options.to[1]}", flush=True)
    async with asyncio.TaskGroup() as events:
        for at_s, seconds in options.outage:
            events.create_task(_later(at_s, partial(link.cut, seconds), f"cut for {seconds:g} s"))
        for at_s, rtt_ms in options.rtt_at:
            events.create_task(_later(at_s, partial(link.change, rtt_ms=rtt_ms), f"RTT {rtt_ms:g} ms"))
        await asyncio.Event().wait()


async def _later(at_s: float, act: Callable[[], None], said: str) -> None:
    await asyncio.sleep(at_s)
    act()
    print(f"{at_s:g} s: {said}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m runtime.link", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, spec = parser.add_argument, LinkSpec()
    add("--listen", type=_address, required=True, metavar="HOST:PORT", help="port 0: any that is free")
    add("--to", type=_address, required=True, metavar="HOST:PORT", help="the target")
    add("--rtt-ms", type=float, metavar="MS", help=f"round trip (default: {spec.rtt_ms:g})")
    add("--jitter-ms", type=float, metavar="MS", help=f"mean addition to the round trip (default: {spec.jitter_ms:g})")
    add("--up-mbps", type=float, metavar="MBPS", help=f"10^6 bits a second to the target (default: {spec.up_mbps:g})")
    add("--down-mbps", type=float, metavar="MBPS", help=f"and from it (default: {spec.down_mbps:g})")
    add("--trace", metavar="CSV", help="time_ms,up_mbps,down_mbps[,rtt_ms], repeated, instead of the fixed figures")
    add("--loss", type=float, default=0.0, metavar="SHARE", help="of 1448-byte segments (default: 0)")
    add_moments = partial(add, type=_moment, nargs="+", action="extend", default=[])
    add_moments("--outage", metavar="START_S:LENGTH_S", help="when to hold all bytes, connections stay")
    add_moments("--rtt-at", metavar="START_S:RTT_MS", help="when to change the round trip")
    add("--seed", type=_whole, default=0, help="of jitter and loss (default: 0)")
    return parser


def _address(text: str) -> Address:
    return host_and_port(address(text))


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _moment(text: str) -> tuple[float, float]:
    try:
        start_s, value = (float(part) for part in text.split(":"))
    except ValueError:
        start_s = value = math.nan
    if not (0.0 <= start_s < math.inf and 0.0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"expected two numbers from 0 on, as in 5:2, got {text!r}")
    return start_s, value


if __name__ == "__main__":
    main()
