"""A target in the same process: a `messages.Target` like the one behind a network."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from runtime.edge.local import LocalTarget
from runtime.messages import Busy, Disconnected, Opening, Refused, Sampling, Stream, Target
from runtime.target.engine import Engine
from tests.target_sessions import VOCABULARY, generated, serving, some_prompt

PROMPT = some_prompt(9)
WANTED = generated(PROMPT, 24)
OPENING = Opening(PROMPT, (), len(WANTED), Sampling(), ignore_eos=True)


def live(engine: Engine, life: Any) -> Any:
    """Run `life(target)` in an event loop."""

    async def timed() -> Any:
        target: Target = LocalTarget(engine)
        coroutine: Coroutine[Any, Any, Any] = life(target)
        return await asyncio.wait_for(coroutine, 30)

    return asyncio.run(timed())


async def speculate(stream: Stream, window: int) -> list[int]:
    """Live to the end of the request; decode the middle of it in the cloud."""
    output, drafted, cloud = [], [], False
    while True:
        verdict = await stream.receive()
        output += [*drafted[: verdict.accepted], *verdict.tokens]
        drafted = []
        if verdict.finish:
            return output
        if not verdict.final:
            await stream.stop()
        elif not cloud and len(output) > 8:
            cloud = True
            await stream.decode(len(output))
        else:
            drafted = WANTED[len(output) : len(output) + window]
            await stream.verify(len(output), drafted, b"")


def test_requests_at_the_same_time_get_the_models_text() -> None:
    async def life(target: Target) -> list[list[int]]:
        streams = [await target.open(OPENING) for _ in range(5)]
        return await asyncio.gather(*(speculate(stream, window) for window, stream in enumerate(streams)))

    with serving(chunk_tokens=2) as engine:
        assert live(engine, life) == [WANTED] * 5
        assert engine.kv_tokens_used == 0


def test_bytes_are_those_of_the_messages() -> None:
    async def life(target: Target) -> None:
        stream = await target.open(OPENING)
        opened = stream.uplink_bytes
        assert len(PROMPT) < opened < 200
        await stream.receive()
        first = stream.downlink_bytes
        await stream.verify(1, WANTED[1:5], b"12345")
        window = stream.uplink_bytes - opened
        assert 9 < window < 40
        await stream.receive()
        assert 0 < first < 100 and first < stream.downlink_bytes
        assert await stream.ping() >= 0.0
        await stream.close()

    with serving() as engine:
        live(engine, life)


def test_errors_come_out_where_they_belong() -> None:
    async def life(target: Target) -> None:
        assert (await target.describe()).tokenizer == "fingerprint"
        with pytest.raises(Refused, match="outside the vocabulary"):
            await target.open(OPENING._replace(prompt=[VOCABULARY]))
        streams = [await target.open(OPENING) for _ in range(2)]
        with pytest.raises(Busy):
            await target.open(OPENING)
        await streams[0].receive()
        with pytest.raises(Refused, match="position 5"):
            await streams[0].verify(5, [1], b"")
        await streams[0].close()
        await streams[0].close()
        await streams[1].receive()
        await asyncio.to_thread(engine.stop)
        for _ in range(2):
            with pytest.raises(Disconnected, match="stopped"):
                await streams[1].receive()
        for late in (streams[1].verify(1, [1], b""), streams[1].decode(1)):  # no fault of the edge's
            with pytest.raises(Disconnected, match="not serving"):
                await late
        await streams[1].close()

    with serving(kv_budget_tokens=40, max_queue=1) as engine:
        live(engine, life)
