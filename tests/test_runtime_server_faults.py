"""What comes over the wire broken, too large, not at all or not any more ends its own stream and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from runtime.edge.client import RemoteTarget
from runtime.messages import Disconnected, Refused
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import opening_to_wire
from runtime.wire.dsd_pb2_grpc import TargetStub
from tests.target_serving import PROMPT, TOKENIZER, greedy, remote, request, serving, speculate, started, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
END: Any = grpc.aio.EOF  # type: ignore[attr-defined]
WRITE_FAILED = grpc.StatusCode.INTERNAL  # what a gRPC client makes of a stream that ends while it writes
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@asynccontextmanager
async def undisturbed(**options: Any) -> AsyncIterator[tuple[Any, int]]:
    """Serve, with a session under way that must end right after whatever is done meanwhile."""
    async with serving(**options) as (engine, server), remote(server.port) as target:
        stream = await target.open(request(60))
        await until(lambda: engine.waiting == 0)
        yield engine, server.port
        assert tuple(await speculate(stream, greedy(PROMPT, 60))) == greedy(PROMPT, 60)
        await until(lambda: engine.kv_tokens_used == 0)


@pytest.mark.parametrize(
    "data",
    [
        os.urandom(4096),
        b"GET / HTTP/1.1\r\nHost: target\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # the beginning of a TLS handshake
        PREFACE + SETTINGS + b"\x00\x40\x00\x01\x04\x00\x00\x00\x01" + bytes(100),  # truncated headers
        PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000),  # a frame of 16 MB
        PREFACE + 1000 * (bytes(3) + b"\x63" + bytes(5)),  # frames of no known type
    ],
)
def test_garbage_ends_its_own_connection(data: bytes) -> None:
    async def run() -> None:
        async with undisturbed() as (engine, port):
            for half_close in (True, False):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                with suppress(OSError):  # a reset, or no answer in time
                    if half_close:
                        writer.write_eof()
                    await asyncio.wait_for(reader.read(), 0.3)
                writer.transport.abort()
            assert engine.sessions == 1

    asyncio.run(run())


def test_mutated_messages_end_their_own_streams(caplog: pytest.LogCaptureFixture) -> None:
    """Streams of messages that are framed well, each with some bytes changed, added or lost."""
    luck = random.Random(0)
    messages = [
        wire.EdgeMessage(window=wire.Window(position=1, tokens=(1, 2, 3))),
        wire.EdgeMessage(decode=wire.Decode(position=1)),
        wire.EdgeMessage(stop=wire.Stop()),
        wire.EdgeMessage(ping=wire.Ping(id=7)),
        wire.EdgeMessage(),
    ]

    def mutated(message: wire.EdgeMessage) -> bytes:
        data = bytearray(message.SerializeToString())
        for _ in range(luck.choice((0, 1, 1, 3))):
            place = luck.randint(0, len(data))
            data[place : place + luck.randint(0, 2)] = luck.randbytes(luck.randint(0, 2))
        return bytes(data)

    async def run() -> None:
        async with undisturbed() as (engine, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            codes = set()
            for _ in range(80):
                call: Any = channel.stream_stream("/dsd.v1.Target/Generate", None, None)()
                opening = opening_to_wire(request(5), TOKENIZER)
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(mutated(opening) if luck.random() < 0.5 else opening.SerializeToString())
                    for message in luck.choices(messages, k=3):
                        await call.write(mutated(message))
                    await call.done_writing()
                    while await asyncio.wait_for(call.read(), 5.0) is not END:
                        pass
                codes.add(await asyncio.wait_for(call.code(), 5.0))
            assert grpc.StatusCode.INVALID_ARGUMENT in codes
            assert not caplog.records  # nothing surprised the target
            assert codes <= {grpc.StatusCode.OK, *REFUSALS, WRITE_FAILED}
            await until(lambda: engine.sessions == 1)

    asyncio.run(run())


def test_oversized_message_is_refused() -> None:
    async def run() -> None:
        async with undisturbed() as (_, port), remote(port) as target:
            with pytest.raises(Refused, match="prompt tokens: 5000"):
                await target.open(request(10, prompt=range(5000)))
            with pytest.raises((Refused, Disconnected)):  # cut off in the middle of the message
                await target.open(request(10, prompt=range(1_000_000)))

    asyncio.run(run())


def test_message_that_unfolds_into_a_huge_one_is_refused() -> None:
    async def run() -> None:
        async with undisturbed() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = TargetStub(channel).Generate(compression=grpc.Compression.Gzip)
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(opening_to_wire(request(10, prompt=bytes(10_000_000)), TOKENIZER))
            assert await call.code() is not grpc.StatusCode.OK

    asyncio.run(run())


async def flood(call: Any) -> None:
    """Send pings for ever."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(wire.EdgeMessage(ping=wire.Ping(id=2**63)))


def test_edge_that_does_not_read_loses_its_session() -> None:
    async def run() -> None:
        limits = {"max_unsent_messages": 8, "max_sessions_per_client": 1000}
        narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        async with (
            undisturbed(**limits) as (engine, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", narrow) as channel,
        ):
            call = TargetStub(channel).Generate()
            await call.write(opening_to_wire(request(10), TOKENIZER))
            await until(lambda: engine.sessions == 2)
            pings = asyncio.create_task(flood(call))
            await until(lambda: engine.sessions == 1, within_s=30.0)
            pings.cancel()

    asyncio.run(run())


def test_stream_without_a_first_message_expires() -> None:
    async def run() -> None:
        async with serving(idle_timeout_s=0.3, max_streams=1) as (_, server), remote(server.port) as target:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = TargetStub(channel).Generate()
                assert await asyncio.wait_for(call.code(), 3.0) is grpc.StatusCode.ABORTED
            await (await target.open(request(10))).receive()

    asyncio.run(run())


# --- links that break -------------------------------------------------------------------------------------------------


class Link:
    """A relay to a port that can fall silent without closing anything."""

    def __init__(self, port: int) -> None:
        self._port, self._clear = port, asyncio.Event()
        self._clear.set()
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Hold back everything from now on."""
        self._clear.clear()

    def come_back(self) -> None:
        """Let everything through again."""
        self._clear.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._relay(reader, far_writer), self._relay(far_reader, writer))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._clear.wait()
                writer.write(data)
            writer.close()


def test_silent_link_is_disconnected_and_a_new_one_goes_on() -> None:
    async def run() -> None:
        async with (
            serving(keepalive_s=0.3) as (engine, server),
            Link(server.port) as link,
            remote(link.port, silence_timeout_s=0.6, connect_timeout_s=0.6) as target,
        ):
            expected = greedy(PROMPT, 20)
            stream = await target.open(request(20))
            await stream.receive()
            link.fall_silent()
            await stream.verify(1, expected[1:4], b"")
            began_s = time.monotonic()
            with pytest.raises(Disconnected, match=r"nothing heard from the target for 0\.6 s"):
                await stream.receive()
            assert 0.5 < time.monotonic() - began_s < 1.5
            with pytest.raises(Disconnected, match=r"no answer within 0\.6 s"):
                await target.open(request(20))
            await until(lambda: engine.kv_tokens_used == 0)  # the target has noticed as well
            link.come_back()
            again = await target.open(request(20, committed=expected[:1]))
            assert tuple(await speculate(again, expected, expected[:1])) == expected

    asyncio.run(run())


def test_restarted_target_is_found_again() -> None:
    async def run() -> None:
        with started() as engine:
            expected = greedy(PROMPT, 20)
            async with serving(engine) as (_, server):
                port = server.port
                target = RemoteTarget(f"127.0.0.1:{port}", TOKENIZER)
                stream = await target.open(request(20))
                await stream.receive()
            with pytest.raises(Disconnected, match="the target has stopped"):
                await stream.receive()
            began_s = time.monotonic()
            for attempt in (target.open(request(20)), target.describe(), stream.verify(1, (1,), b""), stream.ping()):
                with pytest.raises(Disconnected):
                    await attempt
            assert time.monotonic() - began_s < 1.0
            async with serving(engine, listen=f"127.0.0.1:{port}"):
                stream = await target.open(request(20, committed=expected[:1]))
                assert tuple(await speculate(stream, expected, expected[:1])) == expected
            await target.close()

    asyncio.run(run())
