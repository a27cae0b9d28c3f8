"""What a target refuses, how many sessions it takes, and what becomes of those whose edge has gone."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from runtime.messages import Busy, Disconnected, Opening, Refused, Sampling
from tests.target_serving import (
    PROMPT,
    VOCABULARY,
    greedy,
    remote,
    request,
    serving,
    speculate,
    started,
    until,
)

# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "words"),
    [
        (request(10, prompt=(1, VOCABULARY)), "outside the vocabulary"),
        (request(10, prompt=()), "prompt tokens"),
        (request(10_000), "max_new_tokens"),
        (request(10, committed=range(10)), "committed"),
        (Opening(PROMPT, (), 10, Sampling(temperature=-1.0)), "temperature"),
    ],
)
def test_wrong_request_is_one_clear_line(opening: Opening, words: str) -> None:
    async def run() -> None:
        async with serving() as (engine, server), remote(server.port) as target:
            with pytest.raises(Refused, match=words) as refusal:
                await target.open(opening)
            assert "\n" not in str(refusal.value)
            assert engine.sessions == 0

    asyncio.run(run())


def test_wrong_pair_is_refused_by_name() -> None:
    async def run() -> None:
        async with serving() as (_, server), remote(server.port, "another") as target:
            with pytest.raises(Refused, match="vocabulary is not that of the target tiny"):
                await target.open(request(10))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("position", "tokens", "words"),
    [(1, [VOCABULARY], "outside the vocabulary"), (2, [1], "position 2"), (1, range(17), "window of 17")],
)
def test_wrong_window_ends_its_session_alone(position: int, tokens: list[int], words: str) -> None:
    async def run() -> None:
        async with serving() as (engine, server), remote(server.port) as target:
            good, bad = await target.open(request(40)), await target.open(request(40))
            await bad.receive()
            await bad.verify(position, tokens, b"")
            with pytest.raises(Refused, match=words):
                await bad.receive()
            with pytest.raises(Refused, match=words):
                await bad.ping()
            await until(lambda: engine.sessions == 1)
            assert tuple(await speculate(good, greedy(PROMPT, 40))) == greedy(PROMPT, 40)

    asyncio.run(run())


def test_streams_are_limited_for_each_client_and_in_all() -> None:
    async def run(retry: str, **options: Any) -> None:
        async with serving(**options) as (engine, server), remote(server.port) as target:
            held = [await target.open(request(10)) for _ in range(2)]
            with pytest.raises(Busy, match=retry) as busy:
                await target.open(request(10))
            assert busy.value.retry_ms > 0
            await held[0].close()
            await until(lambda: engine.sessions == 1)
            await (await target.open(request(10))).close()

    asyncio.run(run("127.0.0.1 has 2 sessions", max_sessions_per_client=2))
    asyncio.run(run("serves 2 streams", max_streams=2))


def test_two_hundred_sessions_on_memory_for_twenty_end_right_or_come_again() -> None:
    count, budget = 24, 20 * (len(PROMPT) + 24)

    async def edge(target: Any, number: int) -> int:
        prompt = (number % VOCABULARY, *PROMPT[1:])
        luck, turned_away = random.Random(number), 0
        while True:
            try:
                stream = await target.open(request(count, prompt))
                break
            except Busy as busy:
                assert busy.retry_ms > 0
                turned_away += 1
                await asyncio.sleep(min(busy.retry_ms, 500.0) * luck.random() / 1000.0)
        assert tuple(await speculate(stream, greedy(prompt, count))) == greedy(prompt, count)
        return turned_away

    async def run() -> None:
        with started(kv_budget_tokens=budget, max_queue=20) as engine:
            serves = serving(engine, max_sessions_per_client=1000)
            async with serves as (_, server), remote(server.port, connect_timeout_s=30.0) as target:
                turned_away = await asyncio.gather(*(edge(target, number) for number in range(200)))
                assert sum(turned_away) > 0
                await until(lambda: engine.kv_tokens_used == 0 and engine.sessions == 0)

    for number in range(VOCABULARY):
        greedy((number, *PROMPT[1:]), count)
    asyncio.run(run())


# --- sessions whose edge has gone ---------------------------------------------------------------------------------


def test_idle_session_frees_its_memory() -> None:
    async def run() -> None:
        async with serving(idle_timeout_s=0.3) as (engine, server), remote(server.port) as target:
            stream = await target.open(request(10))
            await stream.receive()
            assert engine.kv_tokens_used > 0
            with pytest.raises(Disconnected, match=r"no message from the edge for 0\.3 s"):
                await stream.receive()
            assert engine.kv_tokens_used == 0

    asyncio.run(run())


def test_pings_keep_a_session_alive() -> None:
    async def run() -> None:
        async with serving(idle_timeout_s=0.3) as (engine, server), remote(server.port) as target:
            stream = await target.open(request(10))
            await stream.receive()
            for _ in range(8):
                await asyncio.sleep(0.1)
                await stream.ping()
            assert engine.sessions == 1

    asyncio.run(run())


def test_session_that_waits_for_the_target_is_not_idle() -> None:
    async def run() -> None:
        with started(kv_budget_tokens=60) as engine:
            async with serving(engine, idle_timeout_s=0.4) as (_, server), remote(server.port) as target:
                held, stream = await target.open(request(50)), await target.open(request(50))
                await held.receive()
                for _ in range(5):
                    await asyncio.sleep(0.2)
                    await held.ping()
                assert engine.waiting == 1
                await held.close()
                assert (await stream.receive()).tokens == greedy(PROMPT, 1)

    asyncio.run(run())


@pytest.mark.parametrize("in_cloud", [False, True])
def test_dropped_client_frees_its_memory(in_cloud: bool) -> None:
    async def run() -> None:
        async with serving() as (engine, server), remote(server.port) as target:
            stream = await target.open(request(450))
            await stream.receive()
            if in_cloud:
                await stream.decode(1)
                await stream.receive()
            assert engine.kv_tokens_used > 0
            began_s = time.monotonic()
            await target.close()
            await until(lambda: engine.kv_tokens_used == 0)
            assert time.monotonic() - began_s < 0.25  # well before cloud decoding would have ended

    asyncio.run(run())
