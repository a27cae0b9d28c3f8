"""What a link does to bytes: one clock, two directions, and a pipe for each direction of each connection."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import time
from dataclasses import replace
from typing import NamedTuple

from dsd_gym import luck
from dsd_gym.config import ConfigError, build, to_dict
from dsd_gym.network import make_link
from dsd_gym.network.loss import SEGMENT_BYTES, TAIL_SEGMENTS, is_lost, segments, timeout_ms
from dsd_gym.scenario import LinkSpec

CHUNK_BYTES, CHUNK_MS = 65536, 5.0  # the most that one connection sends before another has its turn
QUEUE_MS = 20.0  # of sending, read before its turn; the rest waits at the sender
WINDOW_BYTES = 4 << 20  # the most on its way in one direction of one connection: a receive window
EARLY_MS = 0.1  # every timer is late by this much


class Conditions:
    """A link's parameters and clock. They may be changed from any thread while bytes are on their way."""

    def __init__(self, spec: LinkSpec, loss: float | None, seed: int) -> None:
        """Begin with the spec's loss where `loss` is None; its `queueing` is left out, as here all bytes queue."""
        self.loss, self.seed = spec.loss, seed
        self.link = make_link(replace(spec, queueing="none", loss=0.0), seed, device=0)
        self._started_s, self._resumes_ms = time.monotonic(), 0.0
        self.change(loss=loss)

    def change(self, *, loss: float | None = None, **numbers: float) -> None:
        """Set `loss` (the share of segments) or numbers of the `LinkSpec` for all that is sent from now on.

        Raises:
            ConfigError: an unknown name or a value out of range.
        """
        if loss is not None and not 0.0 <= loss <= 1.0:
            raise ConfigError(f"link: loss: must be from 0 to 1, got {loss}")
        spec = build(LinkSpec, {**to_dict(self.link.spec), **numbers}, source="link")
        self.link = make_link(spec, self.seed, device=0)
        self.loss = self.loss if loss is None else loss

    def cut(self, seconds: float) -> None:
        """Let nothing through for so long from now: bytes are held, connections stay. No cut shortens another."""
        self._resumes_ms = max(self._resumes_ms, self.now_ms + 1000.0 * seconds)

    @property
    def now_ms(self) -> float:
        """Return the ms since the link was made."""
        return (time.monotonic() - self._started_s) * 1000.0

    async def reach(self, at_ms: float) -> None:
        """Wait for a moment and, where the link is cut then, for the end of the cut."""
        while (wait_ms := max(at_ms, self._resumes_ms) - self.now_ms) > EARLY_MS:
            await asyncio.sleep((wait_ms - EARLY_MS) / 1000.0)

    def leaves_ms(self, at_ms: float) -> float:
        """Return when what is sent at a moment leaves: then, or at the end of the cut, an outage or a hand-over."""
        return self.link.clear_ms(max(at_ms, self._resumes_ms))

    def retransmission_ms(self, behind_bytes: int) -> float:
        """Return what a lost segment takes: one RTT more if three others follow it, else a timeout."""
        spec = self.link.spec
        fast = behind_bytes >= TAIL_SEGMENTS * SEGMENT_BYTES
        return spec.rtt_ms if fast else timeout_ms(spec.rtt_ms, spec.retransmit_ms)


class Direction:
    """One way over the link: all connections share its bandwidth, first come first served."""

    def __init__(self, conditions: Conditions, up: bool) -> None:
        self._conditions, self._up = conditions, up
        self._free_ms, self._chunks = 0.0, 0
        self._turn = asyncio.Lock()  # it is fair

    def chunk_bytes(self) -> int:
        """Return how much to send in one go."""
        link = self._conditions.link
        bytes_a_ms = 125.0 * (link.up_mbps if self._up else link.down_mbps)
        return int(min(CHUNK_BYTES, max(SEGMENT_BYTES, CHUNK_MS * bytes_a_ms)))

    async def send(self, size: int) -> float:
        """Wait until the queue has room for `size` bytes; return when they come out at the other end, in ms."""
        conditions = self._conditions
        async with self._turn:
            await conditions.reach(self._free_ms - QUEUE_MS)
            leaves_ms = conditions.leaves_ms(max(conditions.now_ms, self._free_ms))
            link = conditions.link
            propagation_ms, transmission_ms = (link.uplink if self._up else link.downlink)(leaves_ms, size)
            self._free_ms = leaves_ms + transmission_ms
            return self._free_ms + propagation_ms

    def loses(self, size: int) -> bool:
        """Return whether any of the segments of `size` bytes is lost."""
        self._chunks += 1
        uniform = luck.uniform(self._conditions.seed, luck.LOSS, int(self._up), self._chunks)
        return is_lost(uniform, self._conditions.loss, segments(size))


class _Chunk(NamedTuple):
    data: bytes | None
    """Empty at the end, None where the connection was reset."""
    arrives_ms: float
    lost: bool


class Pipe:
    """One direction of one connection: bytes come out in the order in which they went in."""

    def __init__(self, conditions: Conditions, direction: Direction) -> None:
        self._conditions, self._direction = conditions, direction
        self._chunks: asyncio.Queue[_Chunk] = asyncio.Queue()
        self._room = asyncio.Event()
        self.held_bytes = 0
        """Bytes on their way."""
        self._hold(0)

    async def fill(self, source: asyncio.StreamReader) -> None:
        """Send what comes from one end, as fast as the link takes it, until that end closes or is reset."""
        data: bytes | None = b"-"
        while data:
            await self._room.wait()
            try:
                data = await source.read(self._direction.chunk_bytes())
            except OSError:
                data = None
            size = len(data or b"")
            self._hold(size)
            self._chunks.put_nowait(_Chunk(data, await self._direction.send(size), self._direction.loses(size)))

    async def drain(self, sink: asyncio.StreamWriter) -> None:
        """Hand over what has arrived, as fast as the other end takes it; OSError where either end was reset."""
        while True:
            data, arrives_ms, lost = await self._chunks.get()
            await self._conditions.reach(arrives_ms)
            if lost:
                extra_ms = self._conditions.retransmission_ms(self.held_bytes - SEGMENT_BYTES)
                await self._conditions.reach(arrives_ms + extra_ms)
            if data is None:
                raise ConnectionResetError
            if not data:
                sink.write_eof()
                return
            sink.write(data)
            await sink.drain()
            self._hold(-len(data))

    def _hold(self, more: int) -> None:
        self.held_bytes += more
        if self.held_bytes < WINDOW_BYTES:
            self._room.set()
        else:
            self._room.clear()


if sys.platform == "linux":

    class _FineSelector(selectors.EpollSelector):
        """epoll rounds its timeout up to whole ms; select, which does not, can wait for epoll."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout > 0.0:
                select.select([self.fileno()], [], [], timeout)
            return super().select(0.0)


def make_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are late by some 0.1 ms instead of up to 1 ms."""
    return asyncio.SelectorEventLoop(_FineSelector() if sys.platform == "linux" else None)
