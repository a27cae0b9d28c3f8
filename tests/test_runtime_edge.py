"""The edge gives the target's own text whatever is decided, and its rounds tell the whole story."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from runtime_rig import (
    GREEDY,
    MAX_WINDOW,
    PROMPTS,
    TOKENS,
    Script,
    Switching,
    collect,
    edge_with,
    expected,
    rounds_of,
    text,
)

from dsd_gym.records import Decision, Round
from runtime.edge.device import LARGE_BYTES, Device, Uplink
from runtime.edge.draft import DraftState, Guess
from runtime.messages import Sampling

WARM = Sampling(temperature=0.8, top_p=0.95, seed=3)


def test_greedy_text_is_the_targets_own_for_every_window() -> None:
    async def run() -> None:
        for window in range(MAX_WINDOW + 1):
            async with edge_with(f"static:{window}") as edge:
                for prompt in PROMPTS[:2]:
                    assert text(await collect(edge, prompt)) == expected(prompt)

    asyncio.run(run())


def test_greedy_text_is_the_targets_own_for_concurrent_requests_that_switch_modes() -> None:
    async def run() -> list[list[Round]]:
        async with edge_with(Switching(seed=4)) as edge:
            found = await asyncio.gather(*(collect(edge, prompt) for prompt in PROMPTS))
            assert [text(progress) for progress in found] == [expected(prompt) for prompt in PROMPTS]
            assert edge.requests == len(PROMPTS) and edge.fallbacks == edge.reconnects == 0
            return [rounds_of(progress) for progress in found]

    rounds = [round for request in asyncio.run(run()) for round in request]
    edge_rounds = [round for round in rounds if round.window]
    accepted = sum(round.accepted for round in edge_rounds) / sum(round.drafted for round in edge_rounds)
    assert 0.15 < accepted < 0.95  # rejections and whole windows both occur
    assert any(round.accepted == round.drafted > 1 for round in edge_rounds)
    assert any(round.window and round.cloud_tokens for round in rounds)


def test_work_that_is_given_up_still_keeps_the_draft() -> None:
    """Nobody waits for it, but its pass runs: what comes next waits for the thread."""
    at_once, most, lock = 0, 0, threading.Lock()

    class Slow:
        draft_ms_per_token, read_ms_per_token = 1.0, 10.0

        def _pass(self, seconds: float) -> None:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(seconds)
            with lock:
                at_once -= 1

        def read(self, state: Any) -> None:
            self._pass(0.3)

        def guess(self, state: Any) -> None:
            self._pass(0.01)

    async def run() -> None:
        device = Device(Slow(), time.monotonic)  # type: ignore[arg-type]
        state: Any = SimpleNamespace(prompt_tokens=30)
        reading = device.read(state)
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.sleep(0.0)
        await device.guess(state)
        device.close()

    asyncio.run(run())
    assert most == 1


def test_sampled_text_is_fixed_by_the_seed_and_the_windows() -> None:
    async def run(sampling: Sampling, window: int) -> list[int]:
        async with edge_with(f"static:{window}") as edge:
            progress = await collect(edge, PROMPTS[1], sampling)
            assert len(text(progress)) == TOKENS and progress[-1].finish == "length"
            if window:
                assert any(round.accepted for round in rounds_of(progress))
            return text(progress)

    for window in (0, 1, 5):
        first = asyncio.run(run(WARM, window))
        assert first == asyncio.run(run(WARM, window))
        assert first != asyncio.run(run(replace(WARM, seed=9), window))


def test_rounds_tile_a_requests_life_and_carry_every_token() -> None:
    async def run() -> None:
        async with edge_with(Switching(seed=1)) as edge:
            for prompt in PROMPTS:
                progress = await collect(edge, prompt)
                assert [step.round is None for step in progress] == [True] + [False] * (len(progress) - 1)
                assert len(progress[0].tokens) == 1 and progress[-1].finish == "length"
                rounds = rounds_of(progress)
                for step, round in zip(progress[1:], rounds, strict=True):
                    assert round.committed == len(step.tokens) >= 1
                    assert round.start_ms <= round.decided_ms <= round.end_ms
                    assert round.drafted <= round.window and (round.window > 0 or round.uplink_bytes < 20)
                assert [round.start_ms for round in rounds[1:]] == [round.end_ms for round in rounds[:-1]]
                assert sum(round.committed for round in rounds) == TOKENS - 1

    asyncio.run(run())


def test_nothing_is_drafted_beyond_the_last_token() -> None:
    async def run(tokens: int) -> list[Round]:
        async with edge_with("static:16") as edge:
            progress = await collect(edge, PROMPTS[0], max_new_tokens=tokens)
            assert text(progress) == expected(PROMPTS[0], tokens)
            return rounds_of(progress)

    assert asyncio.run(run(1)) == []
    for tokens in (2, 3, 9):
        left = tokens - 1
        for round in asyncio.run(run(tokens)):
            assert round.window == 16 and round.drafted == max(1, left - 1)
            left -= round.committed
        assert left == 0


def test_a_window_ends_with_a_guessed_end_token_and_the_text_with_a_committed_one() -> None:
    end = expected(PROMPTS[1])[20]
    cut = expected(PROMPTS[1]).index(end) + 1

    async def run(spec: str, ignore_eos: bool) -> tuple[list[int], list[Round]]:
        async with edge_with(spec, ends=frozenset({end})) as edge:
            progress = await collect(edge, PROMPTS[1], ignore_eos=ignore_eos)
            assert progress[-1].finish == ("length" if ignore_eos else "stop")
            return text(progress), rounds_of(progress)

    for spec in ("static:0", "static:1", "static:8"):
        assert asyncio.run(run(spec, False))[0] == expected(PROMPTS[1])[:cut]
        assert asyncio.run(run(spec, True))[0] == expected(PROMPTS[1])
    rounds = asyncio.run(run("static:16", False))[1]
    assert any(round.drafted < min(round.window, TOKENS - cut) for round in rounds)


def test_drafting_stops_where_the_product_of_confidences_falls_under_the_threshold() -> None:
    """At 1 only a sure guess goes on; the text is the target's own for every threshold."""

    async def run(threshold: float) -> list[int]:
        async with edge_with(Script(Decision(6, threshold))) as edge:
            progress = await collect(edge, PROMPTS[1])
            assert text(progress) == expected(PROMPTS[1]) and edge.fallbacks == 0
            return [round.drafted for round in rounds_of(progress)][:-1]

    never, some, always = (asyncio.run(run(threshold)) for threshold in (0.0, 0.3, 1.0))
    assert set(never[:-1]) == {6} and set(always) == {1}
    assert len(set(some)) > 1


def test_observations_are_measured() -> None:
    controller = Script(3, 0, 0, 5)

    async def run() -> None:
        async with edge_with(controller) as edge:
            await collect(edge, PROMPTS[1])

    asyncio.run(run())
    assert all(
        o.draft_ms_per_token > 0 and o.one_token_iteration_ms > 0 and o.batch_size == 1 for o in controller.asked
    )
    edge_asks = [o for o in controller.asked if not o.cloud_mode and o.has_last_round]
    assert all(o.has_first_guess and 0 < o.first_guess_confidence <= 1 and o.catch_up_ms == 0 for o in edge_asks)
    assert all(not o.has_first_guess and o.first_guess_confidence == 0 for o in controller.asked if o.cloud_mode)
    assert [o.context_tokens - o.committed_tokens for o in controller.asked] == [23] * len(controller.asked)


def test_accepted_tokens_stay_in_the_drafts_cache() -> None:
    state = DraftState(None, [1, 2, 3], GREEDY, frozenset())  # type: ignore[arg-type]
    state.read_tokens = 3
    guesses = [Guess(token, 0.5, None) for token in (7, 8, 9)]
    for accepted, read in ((0, 3), (2, 3 + 1 + 2), (3, 6 + 1 + 2)):
        state.read_tokens = len(state.context)
        state.commit(guesses, accepted, [5])
        assert state.read_tokens == read and state.context[-1] == 5


def test_the_uplink_estimate_is_the_least_of_large_messages() -> None:
    uplink = Uplink()
    uplink.measured(LARGE_BYTES - 1, 50.0)
    assert uplink.ms_per_byte == 0.0
    for excess_ms in (90.0, 10.0, 40.0):
        uplink.measured(10_000, excess_ms)
    assert uplink.ms_per_byte == pytest.approx(0.001)
