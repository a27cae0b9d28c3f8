"""A target that crashes, comes back, falls silent, or has far too much to do: texts stay those of `transformers`."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.messages import Busy, Disconnected
from tests.fault_world import (
    PAIR,
    ROOT,
    TargetProcess,
    Trap,
    Windows,
    edge_to,
    expected,
    generated,
    prompts,
    target_process,
)
from tests.serving import small_tokenizer

SILENT = {"silence_timeout_s": 1.0, "connect_timeout_s": 1.0}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetProcess]:
    """Run one target for all tests; its passes are so small that a long prompt takes many."""
    for prompt in prompts():
        expected(prompt)
    with target_process(tmp_path_factory.mktemp("target"), "--max-batch-tokens", "17") as target:
        yield target


@pytest.fixture
def target(process: TargetProcess) -> Iterator[TargetProcess]:
    """Lend the target; it is to be as new afterwards."""
    yield process
    process.ready()


@pytest.mark.parametrize(
    ("windows", "call", "number"),
    [
        ((4,), "verify", 5),
        ((0,), "decode", 1),
        ((0,), "receive", 4),
        ((0, 0, 4), "stop", 2),
        ((4,), "receive", 1),
    ],
)
def test_a_target_killed_in_any_call_is_found_again_when_it_is_back(
    target: TargetProcess, windows: tuple[int, ...], call: str, number: int
) -> None:
    async def run() -> None:
        async with edge_to(target.port, Windows(windows), call, number, target.restart) as (edge, trap):
            rounds = await generated(edge, prompts()[0])
            assert target.starts == starts + 1 and edge.reconnects == 1
            assert len(trap.opened) == 2 and trap.opened[0] == 0 < trap.opened[1]
            assert trap.tries > 2  # it was looked for while it was away
            assert max(round.end_ms - round.start_ms for round in rounds) > 200.0

    starts = target.starts
    asyncio.run(run())


def test_a_target_killed_while_it_prefills_is_given_the_prompt_again(target: TargetProcess) -> None:
    async def run() -> None:
        async with edge_to(target.port, Windows((4,)), "open", 1, target.restart) as (edge, trap):
            await generated(edge, long_prompt)
            assert target.starts == starts + 1 and trap.opened == [0, 0]
            assert edge.reconnects == 0  # no stream had begun

    starts, long_prompt = target.starts, prompts()[0] * 100
    expected(long_prompt)
    asyncio.run(run())


def test_many_requests_in_all_modes_survive_one_crash_after_the_other(target: TargetProcess) -> None:
    async def run() -> None:
        async with edge_to(target.port, Windows((4,), (0,), (0, 0, 3)), "receive", 20, target.restart) as (edge, trap):
            await asyncio.gather(*(generated(edge, prompt) for prompt in prompts()))
            assert edge.reconnects == sum(committed > 0 for committed in trap.opened) > 2
            target.ready()
            trap.arm("receive", 30)
            await asyncio.gather(*(generated(edge, prompt) for prompt in prompts()))
            assert target.starts == starts + 2

    starts = target.starts
    asyncio.run(run())


@pytest.mark.parametrize(("windows", "call", "number"), [((4,), "verify", 4), ((0,), "receive", 3)])
@pytest.mark.parametrize("comes_back", ["resume", "restart"])
def test_a_silent_target_is_left_and_found_again(
    target: TargetProcess, windows: tuple[int, ...], call: str, number: int, comes_back: str
) -> None:
    async def wait_for_tries(trap: Trap) -> None:
        while trap.tries < 3:
            await asyncio.sleep(0.01)
        getattr(target, comes_back)()

    async def run() -> None:
        async with edge_to(target.port, Windows(windows), call, number, target.pause, **SILENT) as (edge, trap):
            waiting = asyncio.create_task(wait_for_tries(trap))
            rounds = await generated(edge, prompts()[1])
            await waiting
            assert edge.reconnects == 1 and len(trap.opened) == 2
            assert max(round.end_ms - round.start_ms for round in rounds) > 1000.0

    asyncio.run(run())


def test_a_target_that_stays_silent_is_given_up_in_one_line(target: TargetProcess) -> None:
    async def run() -> None:
        options = {"silence_timeout_s": 0.3, "connect_timeout_s": 0.3, "retry_for_s": 0.5}
        async with edge_to(target.port, Windows((4,)), "verify", 4, target.pause, **options) as (edge, _):
            with pytest.raises(Disconnected, match=rf"^127.0.0.1:{target.port}: no answer .* \(tried for 0.5 s\)$"):
                await generated(edge, prompts()[1])

    try:
        asyncio.run(run())
    finally:
        target.resume()


def test_two_hundred_sessions_on_memory_for_twenty_leave_nothing_behind(tmp_path: Path) -> None:
    tokens = 12
    full = r"(127\.0\.0\.1 has 64 sessions already.*|\d+ requests wait for memory already) \(tried for 0\.2 s\)"

    async def wave(port: int, retry_for_s: float) -> int:
        """Return how many were sent away."""
        modes = Windows((3,), (0,), (0, 0, 2))
        async with edge_to(port, modes, retry_for_s=retry_for_s, connect_timeout_s=30.0) as (edge, _):
            requests = (generated(edge, prompts()[number % len(prompts())], tokens) for number in range(200))
            ends = await asyncio.gather(*requests, return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        for failure in failures:
            assert isinstance(failure, Busy) and re.fullmatch(full, str(failure)), failure
        return len(failures)

    budget = 20 * (max(map(len, prompts())) + tokens)
    with target_process(tmp_path, "--kv-budget", str(budget), "--max-queue", "30") as target:
        assert asyncio.run(wave(target.port, 60.0)) == 0
        target.ready()
        first_mb = target.resident_mb
        assert 0 < asyncio.run(wave(target.port, 0.2)) < 180
        target.ready()
        assert asyncio.run(wave(target.port, 60.0)) == 0
        target.ready()
        assert target.resident_mb < first_mb + 10.0, first_mb
        print("RSS", first_mb, target.resident_mb)


def test_a_return_to_the_edge_that_crosses_the_last_tokens_is_no_lost_connection(
    target: TargetProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with edge_to(target.port, Windows((0, 4), (0, 0, 4))) as (edge, _):
            for tokens in range(3, 33):
                await asyncio.gather(*(generated(edge, prompt, tokens) for prompt in prompts()[:3]))
            assert edge.reconnects == 0

    asyncio.run(run())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_edges_that_do_not_belong_here_are_told_so_while_others_are_served(tmp_path: Path) -> None:
    keys, key, wrong_key = tmp_path / "keys", tmp_path / "key", tmp_path / "wrong"
    for file, secret in ((keys, "us:right"), (key, "right"), (wrong_key, "other")):
        file.write_text(secret)
    stranger = shutil.copytree(PAIR / "draft", tmp_path / "stranger")
    small_tokenizer().save_pretrained(stranger)

    async def strange_edge(port: int, *options: str) -> tuple[int | None, str]:
        command = (sys.executable, "serve.py", "edge", "--target", f"127.0.0.1:{port}", "--prompt", "x", *options)
        edge = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=PIPE, stdout=PIPE)
        said, told = await edge.communicate()
        return edge.returncode, (said + told).decode()

    async def garbage(port: int) -> None:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(os.urandom(4096))
            await asyncio.sleep(0.05)
            writer.transport.abort()

    async def run(port: int) -> None:
        strangers = asyncio.gather(
            strange_edge(port, "--token-file", str(wrong_key)),
            strange_edge(port, "--token-file", str(key), "--draft", str(stranger)),
            garbage(port),
        )
        async with edge_to(port, Windows((4,), (0, 0, 3)), token="right") as (edge, _):
            while not strangers.done():
                await generated(edge, prompts()[edge.requests % 4])
            assert edge.reconnects == 0 and edge.requests > 2
        (code, told), (other_code, other_told), _ = await strangers
        assert (code, other_code) == (2, 2)
        assert re.fullmatch(r"error: .*a bearer token of this target is needed\n", told), told
        assert re.fullmatch(r"error: .*its vocabulary is not that of the target .*\n", other_told), other_told

    with target_process(tmp_path, "--tokens", str(keys)) as target:
        asyncio.run(run(target.port))
        target.ready()
