"""One request's way to its target: opened as often as it takes, its round trips timed, its bytes counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runtime.edge.device import Device
from runtime.edge.draft import Guess
from runtime.edge.retry import Backoff
from runtime.messages import Busy, Disconnected, Opening, Refused, Stream, Target, Verdict
from runtime.sampling import encode

PACKET_BYTES = 1200
"""A larger opening may still be on its way when the first ping is sent behind it."""


class Connection:
    """A stream that outlives its transport: `open` again after any method but `close` has raised `Disconnected`."""

    def __init__(
        self, target: Target, opening: Opening, device: Device, clock: Callable[[], float], retry_for_s: float
    ) -> None:
        self._target, self._opening, self._device = target, opening, device
        self._clock, self._retry_for_s = clock, retry_for_s
        self._stream: Stream | None = None
        self._accepted_ms = 0.0
        self._pinging: asyncio.Task[None] | None = None
        self._past_bytes = (0, 0)
        self._taken_bytes = (0, 0)

    async def open(self, committed: Sequence[int]) -> Verdict:
        """Open a stream and return its first message; try again, for a while, where the target is away or full."""
        backoff = Backoff(self._retry_for_s, self._clock)
        while True:
            await self.close()
            try:
                return await self._open(committed)
            except (Disconnected, Busy) as error:
                if self._stream is not None:
                    backoff.spare(self._clock() - self._accepted_ms)
                pause_ms = backoff.pause_ms(error)
            await asyncio.sleep(pause_ms / 1000.0)

    async def _open(self, committed: Sequence[int]) -> Verdict:
        sent_ms = self._clock()
        self._stream = await self._target.open(self._opening._replace(committed=tuple(committed)))
        self._accepted_ms = self._clock()
        pinging = self._pinging = asyncio.create_task(self._first_ping(self._stream))
        verdict = await self._stream.receive()
        transfer_ms = self._clock() - sent_ms - verdict.target_ms
        if self._device.estimate.smoothed_ms == 0.0:
            await pinging  # nothing is known of this link: worth a round trip
        if pinging.done():
            self._device.uplink.measured(self._stream.uplink_bytes, transfer_ms - self._device.estimate.last_ms)
        return verdict

    async def verify(self, position: int, guesses: Sequence[Guess]) -> Verdict:
        """Send a window, await its verdict and take the round trip: without the target's time and transmission."""
        stream, device = self._connected, self._device
        before_bytes, sent_ms = stream.uplink_bytes, self._clock()
        probs = encode([guess.probs for guess in guesses if guess.probs])
        await stream.verify(position, [guess.token for guess in guesses], probs)
        transmission_ms = (stream.uplink_bytes - before_bytes) * device.uplink.ms_per_byte
        verdict = await stream.receive()
        device.estimate.measured(max(0.0, self._clock() - sent_ms - verdict.target_ms - transmission_ms))
        return verdict

    async def decode(self, position: int) -> None:
        """Let the target decode on its own."""
        await self._connected.decode(position)

    async def stop(self) -> None:
        """Let it stop; what it has decoded is still to be received."""
        await self._connected.stop()

    async def chunk(self) -> Verdict:
        """Return the next message of cloud decoding; a ping beside it measures the round trip."""
        stream = self._connected
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping(stream))
        return await stream.receive()

    def take_bytes(self) -> tuple[int, int]:
        """Return the bytes sent and received since the last call, over however many streams."""
        up, down = self._total_bytes()
        taken_up, taken_down = self._taken_bytes
        self._taken_bytes = (up, down)
        return up - taken_up, down - taken_down

    async def close(self) -> None:
        """End the stream, if there is one."""
        self._past_bytes = self._total_bytes()
        stream, self._stream = self._stream, None
        if self._pinging:
            self._pinging.cancel()
        if stream:
            await stream.close()

    @property
    def max_window(self) -> int:
        """Return the longest window that the target takes: it may be another one since the last stream."""
        return self._connected.max_window

    @property
    def _connected(self) -> Stream:
        if self._stream is None:
            raise Disconnected("not connected")
        return self._stream

    def _total_bytes(self) -> tuple[int, int]:
        up, down = self._past_bytes
        return (up + self._stream.uplink_bytes, down + self._stream.downlink_bytes) if self._stream else (up, down)

    async def _first_ping(self, stream: Stream) -> None:
        """Measure a round trip once the opening is through."""
        if stream.uplink_bytes > PACKET_BYTES:
            await self._ping(stream, counts=False)
        await self._ping(stream)

    async def _ping(self, stream: Stream, counts: bool = True) -> None:
        try:
            rtt_ms = await stream.ping()
        except (Disconnected, Refused):
            return  # whoever receives hears of it too
        if counts:
            self._device.estimate.measured(rtt_ms)
