"""The target's server and its client: sessions over a real connection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsd_gym.config import ConfigError
from runtime.messages import Description, Disconnected, Verdict
from runtime.wire import dsd_pb2 as wire
from tests.target_serving import (
    PROMPT,
    TOKENIZER,
    greedy,
    remote,
    request,
    serving,
    speculate,
    started,
    until,
)


def test_session_is_the_models_own_continuation() -> None:
    async def run() -> None:
        async with serving() as (engine, server), remote(server.port) as target:
            expected = greedy(PROMPT, 60)
            stream = await target.open(request(60))
            assert tuple(await speculate(stream, expected)) == expected
            await until(lambda: engine.kv_tokens_used == 0)

    asyncio.run(run())


def test_cloud_mode_stops_and_returns_to_the_edge() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            expected = greedy(PROMPT, 200)
            stream = await target.open(request(200))
            output = [*(await stream.receive()).tokens]
            await stream.decode(1)
            verdicts = [await stream.receive()]
            await stream.stop()
            while not verdicts[-1].final:
                verdicts.append(await stream.receive())
            for verdict in verdicts:
                assert verdict.position == len(output) and verdict.target_ms == 0.0
                output += verdict.tokens
            assert not verdicts[-1].finish
            await stream.verify(len(output), expected[len(output) : len(output) + 3], b"")
            verdict = await stream.receive()
            assert verdict.accepted == 3 and verdict.target_ms > 0.0
            await stream.close()
            assert tuple(output) == expected[: len(output)]

    asyncio.run(run())


def test_reopened_session_goes_on_from_what_is_committed() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            expected = greedy(PROMPT, 40)
            stream = await target.open(request(40, committed=expected[:17]))
            assert tuple(await speculate(stream, expected, expected[:17])) == expected

    asyncio.run(run())


def test_many_streams_share_one_connection() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            prompts = [tuple(range(start, start + 6)) for start in range(12)]
            streams = [await target.open(request(30, prompt)) for prompt in prompts]
            outputs = await asyncio.gather(
                *(speculate(stream, greedy(prompt, 30)) for stream, prompt in zip(streams, prompts, strict=True))
            )
            assert [tuple(output) for output in outputs] == [greedy(prompt, 30) for prompt in prompts]

    asyncio.run(run())


def test_pings_are_answered_while_the_edge_waits_for_a_token() -> None:
    async def run() -> None:
        with started(kv_budget_tokens=60) as engine:
            async with serving(engine) as (_, server), remote(server.port, silence_timeout_s=0.4) as target:
                held, stream = await target.open(request(50)), await target.open(request(50))
                waiting = asyncio.create_task(stream.receive())
                assert 0.0 < await stream.ping() < 200.0
                await asyncio.sleep(1.0)  # more than twice the silence that is allowed
                assert not waiting.done()
                await held.close()
                assert (await waiting).tokens == greedy(PROMPT, 1)

    asyncio.run(run())


def test_cancelled_ping_leaves_its_session_alone() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            expected = greedy(PROMPT, 40)
            stream = await target.open(request(40))
            for turns in range(12):
                pings = [asyncio.create_task(stream.ping()) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for ping in pings:
                    ping.cancel()
            assert tuple(await speculate(stream, expected)) == expected

    asyncio.run(run())


def test_bytes_are_counted_as_sent() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            stream = await target.open(request(10))
            first = stream.uplink_bytes
            assert len(PROMPT) < first < 100 and stream.downlink_bytes == 0
            await stream.receive()
            await stream.verify(1, (1, 2, 3), bytes(50))
            window = wire.EdgeMessage(window=wire.Window(position=1, tokens=(1, 2, 3), draft_probs=bytes(50)))
            assert stream.uplink_bytes - first == window.ByteSize() + 5
            assert stream.downlink_bytes > 5
            await stream.close()

    asyncio.run(run())


def test_description_is_the_engines() -> None:
    async def run() -> Description:
        async with serving() as (engine, server), remote(server.port) as target:
            assert await target.describe() == engine.describe()
            return engine.describe()

    assert asyncio.run(run()).tokenizer == TOKENIZER


# --- the server's life --------------------------------------------------------------------------------------------


def test_health_says_serving_and_then_not() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port) as target:
            stream = await target.open(request(10))
            await stream.receive()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                for service in ("", "dsd.v1.Target"):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
                draining = asyncio.create_task(server.drain())
                await asyncio.sleep(0.05)
                answer = await stub.Check(health_pb2.HealthCheckRequest(service="dsd.v1.Target"))
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(Disconnected, match="shutting down"):
                await target.open(request(10))
            assert not draining.done()
            await stream.verify(1, (1, 2), b"")
            assert isinstance(await stream.receive(), Verdict)
            await stream.close()
            await asyncio.wait_for(draining, 1.0)

    asyncio.run(run())


@pytest.mark.parametrize("recovery", ["a pass", "a rest"])
def test_health_says_so_while_the_engine_is_ill(monkeypatch: pytest.MonkeyPatch, recovery: str) -> None:
    monkeypatch.setattr("runtime.target.server.HEALTH_S", 0.02)
    monkeypatch.setattr("runtime.target.server.REST_S", 0.5 if recovery == "a rest" else 60.0)

    async def run() -> None:
        async with serving() as (engine, server), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def becomes(state: Any) -> None:
                async with asyncio.timeout(5.0):
                    while (await stub.Check(health_pb2.HealthCheckRequest())).status != state:
                        await asyncio.sleep(0.02)

            await becomes(health_pb2.HealthCheckResponse.SERVING)
            for failures in (3, 1 if recovery == "a rest" else 3):  # after a rest, one more is enough
                engine.failures_in_a_row += failures
                engine.failed_passes += failures
                await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)
                if recovery == "a pass":
                    engine.failures_in_a_row = 0
                await becomes(health_pb2.HealthCheckResponse.SERVING)
            engine.stop()
            await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)

    asyncio.run(run())


def test_port_in_use_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with serving() as (engine, server):
            listen = f"127.0.0.1:{server.port}"
            with pytest.raises(ConfigError, match=f"{listen}: cannot listen there"):
                async with serving(engine, listen=listen):
                    pass

    asyncio.run(run())
