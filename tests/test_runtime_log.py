"""A session's log holds what happened: it reads back equal, metrics take it, and a broken line is named."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from runtime_rig import GREEDY, PROMPTS, TOKENS, Switching, collect, edge_with, rounds_of, text

from dsd_gym.config import ConfigError
from dsd_gym.metrics import summarise
from dsd_gym.observation import FEATURES
from dsd_gym.records import Round, Status
from runtime.edge.log import SessionLog, read_log
from runtime.edge.summary import Summary
from runtime.messages import Disconnected, Opening


def new_log(path: Path) -> SessionLog:
    return SessionLog(path, controller="static:4", draft="small", target="large")


def session(path: Path) -> list[Round]:
    """Run all prompts at once, one that its client leaves early, and return the rounds of the former."""

    async def run() -> list[Round]:
        async with edge_with(Switching(seed=2), log=new_log(path)) as edge:
            found = await asyncio.gather(*(collect(edge, prompt) for prompt in PROMPTS))
            left = edge.generate(PROMPTS[0], GREEDY, TOKENS)
            await anext(left)
            await left.aclose()
            return [round for progress in found for round in rounds_of(progress)]

    return asyncio.run(run())


def test_a_log_reads_back_equal_and_metrics_take_it(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    rounds = session(path)
    records = read_log(path)
    assert records.scenario == "static:4"
    assert sorted(records.rounds) == sorted(rounds)
    assert sorted(r.prompt_tokens for r in records.requests) == sorted([*map(len, PROMPTS), len(PROMPTS[0])])
    figures = summarise(records)
    assert figures["finished"] == figures["scored_requests"] == len(PROMPTS) + 1
    assert figures["rounds"] == len(rounds) > 20
    assert figures["tokens_per_round"] == pytest.approx(len(PROMPTS) * (TOKENS - 1) / len(rounds))
    assert 0 < figures["ttft_ms"] < 60_000 and 0 < figures["tpot_ms"] < 60_000
    seconds = (records.end_ms - records.start_ms) / 1000.0
    assert figures["throughput_tokens_s"] == pytest.approx((len(PROMPTS) * TOKENS + 1) / seconds)


def test_requests_say_when_they_began_and_ended(tmp_path: Path) -> None:
    session(tmp_path / "log")
    records = read_log(tmp_path / "log")
    *whole, left = sorted(records.requests, key=lambda request: request.stream)
    for request in whole:
        own = [round for round in records.rounds if round.stream == request.stream]
        assert request.first_token_ms == own[0].start_ms and request.finish_ms == own[-1].end_ms
        assert request.committed_tokens == request.output_tokens == TOKENS
    assert left.status is Status.FINISHED and left.committed_tokens == left.output_tokens == 1


def test_a_round_is_logged_with_what_it_was_decided_on(tmp_path: Path) -> None:
    session(tmp_path / "log")
    header, *lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (header["kind"], header["controller"], header["draft"], header["target"]) == (
        "run",
        "static:4",
        "small",
        "large",
    )
    for line in lines:
        if line["kind"] == "round":
            assert list(line["observation"]) == list(FEATURES)
            assert len(line["confidences"]) == line["drafted"]
            assert all(0 < confidence <= 1 for confidence in line["confidences"])


def test_the_last_run_of_a_log_counts(tmp_path: Path) -> None:
    session(tmp_path / "log")
    assert sorted(session(tmp_path / "log")) == sorted(read_log(tmp_path / "log").rounds)
    assert (tmp_path / "log").read_text().count('"kind": "run"') == 2


class Away:
    """A target that nobody reaches."""

    def __init__(self, _: Any) -> None:
        pass

    async def open(self, opening: Opening) -> Any:
        raise Disconnected("nobody")


def test_a_request_that_was_never_served_is_charged(tmp_path: Path) -> None:
    async def run() -> None:
        async with edge_with("static:4", Away, retry_for_s=0.0, log=new_log(tmp_path / "log")) as edge:
            with pytest.raises(Disconnected):
                await collect(edge, PROMPTS[0])

    asyncio.run(run())
    (request,) = read_log(tmp_path / "log").requests
    assert request.status is Status.REJECTED and request.output_tokens == TOKENS and request.committed_tokens == 0
    assert summarise(read_log(tmp_path / "log"))["rejected"] == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"kind": "round", "stream"', "Expecting"),
        ("[]", "expected an object"),
        ('{"kind": "sonnet"}', "expected an object"),
        ('{"kind": "round", "stream": 1}', "'start_ms' is missing"),
        ('{"kind": "round", "stream": "one"}', "stream is not a number"),
        ('{"kind": "request", "status": "lost"}', "'lost' is not a valid Status"),
        ('{"kind": "run", "format": 7}', "format 7; this version reads 1"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    new_log(tmp_path / "log").close()
    with (tmp_path / "log").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=rf"log:2: not a line of a session log: .*{reason}"):
        read_log(tmp_path / "log")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/log: cannot be written: No such file"):
        new_log(tmp_path / "nowhere" / "log")
    with pytest.raises(ConfigError, match=r"absent: cannot be read: .*No such file"):
        read_log(tmp_path / "absent")


def test_a_full_disk_ends_the_log_and_not_the_service(caplog: Any) -> None:
    async def run() -> None:
        async with edge_with("static:4", log=new_log(Path("/dev/full"))) as edge:
            assert len(text(await collect(edge, PROMPTS[0]))) == TOKENS

    if not Path("/dev/full").exists():
        pytest.skip("this system has no full disk to offer")
    asyncio.run(run())
    assert [record.message for record in caplog.records if "nothing more is logged" in record.message]


def test_a_summary_says_how_it_went() -> None:
    async def run(tokens: int) -> str:
        async with edge_with("static:4") as edge:
            summary = Summary()
            async for progress in edge.generate(PROMPTS[0], GREEDY, tokens):
                summary.add(progress)
            return summary.text(edge)

    lines = dict(line.split(maxsplit=1) for line in asyncio.run(run(TOKENS)).splitlines())
    assert list(lines) == ["tokens", "TTFT", "TPOT", "windows", "acceptance", "cloud", "fallbacks", "reconnects"]
    assert lines["tokens"].startswith(f"{TOKENS} in ") and lines["windows"].startswith("4 x")
    assert lines["cloud"] == "share 0.0% of tokens" and lines["reconnects"] == "0"
    assert "TPOT" not in asyncio.run(run(1)) and "acceptance" not in asyncio.run(run(1))
