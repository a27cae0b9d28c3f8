"""Whatever breaks, the text is the target's own: lost connections, a full target, clients that leave, controllers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from dataclasses import replace
from typing import Any

import pytest
from runtime_rig import (
    GREEDY,
    MAX_WINDOW,
    PROMPTS,
    TOKENS,
    FaultyTarget,
    Script,
    collect,
    edge_with,
    expected,
    rounds_of,
    text,
)

from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from runtime.edge.guard import Guard
from runtime.messages import Busy, Disconnected, Opening, Refused, Sampling


@pytest.mark.parametrize("windows", [(4,), (0, 0, 3), (0, 6)])
def test_a_connection_lost_in_any_call_costs_no_token_and_doubles_none(windows: tuple[int, ...]) -> None:
    tokens = 14

    async def run(*faults: int) -> FaultyTarget:
        targets: list[FaultyTarget] = []

        def wrap(local: Any) -> FaultyTarget:
            targets.append(FaultyTarget(local, faults))
            return targets[0]

        async with edge_with(Script(*windows), wrap) as edge:
            progress = await collect(edge, PROMPTS[2], max_new_tokens=tokens)
            assert text(progress) == expected(PROMPTS[2], tokens)
            rounds = rounds_of(progress)
            assert sum(round.committed for round in rounds) == tokens - 1
            assert [round.start_ms for round in rounds[1:]] == [round.end_ms for round in rounds[:-1]]
            met = targets[0].calls >= min(faults, default=math.inf)  # a drain is not as long every time
            assert edge.reconnects == (met and min(faults) > 2)  # the first two calls begin the request
        return targets[0]

    target = asyncio.run(run())
    for fault in range(1, target.calls + 1):
        asyncio.run(run(fault))
    asyncio.run(run(*range(5, 9)))


def test_gives_up_on_a_target_that_stays_away_and_says_so() -> None:
    async def run(faults: range) -> None:
        async with edge_with("static:4", lambda local: FaultyTarget(local, faults), retry_for_s=0.3) as edge:
            await collect(edge, PROMPTS[0])

    for first in (1, 7):
        with pytest.raises(Disconnected, match=r"call \d+ found nobody \(tried for 0\.3 s\)"):
            asyncio.run(run(range(first, 10_000)))


class FullTarget:
    """A target that is full for its first `times` openings."""

    def __init__(self, target: Any, times: float) -> None:
        self._target, self._times = target, times

    async def open(self, opening: Opening) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise Busy("full", retry_ms=30.0)
        return await self._target.open(opening)


def test_waits_for_a_full_target_and_not_for_ever() -> None:
    async def run(times: float) -> list[int]:
        async with edge_with("static:4", lambda local: FullTarget(local, times), retry_for_s=0.3) as edge:
            return text(await collect(edge, PROMPTS[0]))

    assert asyncio.run(run(3)) == expected(PROMPTS[0])
    with pytest.raises(Busy, match=r"full \(tried for 0\.3 s\)"):
        asyncio.run(run(math.inf))


class SlowTarget:
    """A target that accepts, and is lost `after_s` later with no token sent, for the first `times` streams."""

    def __init__(self, target: Any, after_s: float, times: float) -> None:
        self._target, self._after_s, self._times = target, after_s, times

    async def open(self, opening: Opening) -> Any:
        stream = await self._target.open(opening)
        self._times -= 1
        if self._times >= 0:
            stream.receive = self._lose
        return stream

    async def _lose(self) -> None:
        await asyncio.sleep(self._after_s)
        raise Disconnected("the link was cut")


def test_a_wait_at_the_target_does_not_count_as_looking_for_it() -> None:
    async def run(after_s: float, times: float) -> list[int]:
        async with edge_with("static:4", lambda local: SlowTarget(local, after_s, times), retry_for_s=0.3) as edge:
            return text(await collect(edge, PROMPTS[0]))

    assert asyncio.run(run(0.5, 2)) == expected(PROMPTS[0])
    with pytest.raises(Disconnected, match=r"the link was cut \(tried for 0\.3 s\)"):
        asyncio.run(run(0.0, math.inf))


def test_a_target_that_comes_back_with_shorter_windows_gets_no_longer_ones() -> None:
    async def run() -> None:
        def wrap(local: Any) -> FaultyTarget:
            return FaultyTarget(Shrinking(local), [9])

        async with edge_with("static:8", wrap) as edge:
            for _ in range(2):
                progress = await collect(edge, PROMPTS[2])
                assert text(progress) == expected(PROMPTS[2])
                drafted = [round.drafted for round in rounds_of(progress)]
                assert max(drafted[-3:]) == 2
            assert edge.reconnects == 1 and edge.fallbacks == 0

    asyncio.run(run())


class Shrinking:
    """A target that takes windows of two at most from its second stream on."""

    def __init__(self, target: Any) -> None:
        self._target, self._opened = target, 0

    async def open(self, opening: Opening) -> Any:
        self._opened += 1
        if self._opened == 2:
            engine = self._target._engine
            engine.limits = replace(engine.limits, max_window=2)
        return await self._target.open(opening)


def test_what_can_never_be_served_is_refused_at_once() -> None:
    async def run() -> None:
        async with edge_with("static:4") as edge:
            for prompt, tokens in (([], 5), ([1], 0), ([64], 5), ([-1], 5), ([1] * 500, 100)):
                with pytest.raises(Refused):
                    await collect(edge, prompt, max_new_tokens=tokens)
            with pytest.raises(Refused, match="top_p"):
                await collect(edge, [1], Sampling(temperature=1.0, top_p=0.0))
            assert edge.requests == 0

    asyncio.run(run())


def test_a_generator_that_is_closed_early_frees_the_target() -> None:
    async def run() -> None:
        for spec, steps in itertools.product(("static:4", "static:0"), (1, 2, 3)):
            async with edge_with(spec) as edge:  # looks itself that no session is left
                generator = edge.generate(PROMPTS[0], GREEDY, TOKENS)
                for _ in range(steps):
                    await anext(generator)
                await generator.aclose()
                waiting = asyncio.create_task(collect(edge, PROMPTS[1]))
                await asyncio.sleep(0.005)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting

    asyncio.run(run())


WINDOWS: list[Any] = [17, -1, math.nan, 2.5, None, "4"]
NONSENSE = [ValueError("no idea"), None, 4.0, Decision(3, 1.4), *map(Decision, WINDOWS)]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_a_controller_that_fails_is_replaced_by_the_fallback_window(answer: Any, caplog: Any) -> None:
    controller = Script(answer, 2)
    controller.record = controller.forget = lambda _: 1 / 0  # type: ignore[method-assign,assignment]

    async def run() -> list[Round]:
        async with edge_with(controller, fallback_window=3) as edge:
            progress = await collect(edge, PROMPTS[0])
            assert text(progress) == expected(PROMPTS[0])
            assert edge.fallbacks == math.ceil(len(rounds_of(progress)) / 2)
            return rounds_of(progress)

    with caplog.at_level(logging.WARNING):
        assert [round.window for round in asyncio.run(run())][:4] == [3, 2, 3, 2]
    assert sorted(record.message.split(":")[0] for record in caplog.records) == [
        f"controller Script fails in {method}" for method in ("decide", "forget", "record")
    ]


def test_a_guard_passes_on_what_is_right() -> None:
    guard = Guard(Script(0, 16), MAX_WINDOW, 4)
    observation = Observation(*[0] * len(Observation._fields))  # type: ignore[arg-type]
    assert [guard.decide(observation, 0).window for _ in range(2)] == [0, 16] and guard.fallbacks == 0
