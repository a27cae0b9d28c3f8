"""Real sessions: a flag belongs to its position, whatever the window, and what ran replays in the simulator."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_rig import PROMPTS, TOKENS, collect, edge_with, rounds_of

from agents import make_controller
from dsd_gym.record_acceptance import import_recording
from dsd_gym.recorded import RecordedRequest
from dsd_gym.records import Round
from dsd_gym.scenario import Acceptance, Lengths, Scenario, Workload
from dsd_gym.simulator import simulate
from runtime.edge.log import SessionLog

ROOT = Path(__file__).resolve().parents[1]


def session(folder: Path, window: int) -> tuple[list[RecordedRequest], int, int]:
    """Generate greedily for all prompts, one after another; return the recording, and accepted and tested drafts."""

    async def run() -> list[Round]:
        log = SessionLog(folder / f"{window}.session", controller="static", draft="small", target="large")
        async with edge_with(f"static:{window}", log=log) as edge:
            return [round for prompt in PROMPTS for round in rounds_of(await collect(edge, prompt))]

    rounds = asyncio.run(run())
    accepted = sum(round.accepted for round in rounds)
    rejected = sum(round.accepted < round.drafted for round in rounds)
    source = folder / f"{window}.session"
    return import_recording(source, "runtime", folder / f"{window}.jsonl"), accepted, accepted + rejected


def test_a_flag_belongs_to_its_position_whatever_the_window(tmp_path: Path) -> None:
    short, long = (session(tmp_path, window)[0] for window in (2, 7))
    both = disagreed = 0
    for one, other in zip(short, long, strict=True):
        assert len(one.accepted) == len(other.accepted) == TOKENS == one.output_tokens
        pairs = [pair for pair in zip(one.accepted, other.accepted, strict=True) if None not in pair]
        both += len(pairs)
        disagreed += sum(first != second for first, second in pairs)
    assert both > 50 and disagreed == 0, "greedy: the same text before a position, so the same guess and verdict"


def test_a_session_replays_as_it_ran(tmp_path: Path) -> None:
    requests, accepted, tested = session(tmp_path, 3)
    flags = [flag for request in requests for flag in request.tested]
    assert (sum(flags), len(flags)) == (accepted, tested)
    assert all(
        (flag is None) == (confidence is None)
        for request in requests
        for flag, confidence in zip(request.accepted, request.confidence, strict=True)
    )
    scenario = Scenario(
        acceptance=Acceptance("recorded", file=str(tmp_path / "3.jsonl")),
        lengths=Lengths(output_mean=TOKENS, output_median=TOKENS),
        workload=Workload("closed", users=1),
        max_requests=len(PROMPTS),
    )
    records = simulate(scenario, make_controller("static:3", scenario.max_window), seed=4)
    ends = len(PROMPTS)  # the runtime drafts nothing for an output's last token, the simulator does
    assert accepted <= sum(round.accepted for round in records.rounds) <= accepted + ends


@pytest.mark.slow
def test_a_session_of_the_shipped_pair_is_recorded_by_the_commands(tmp_path: Path) -> None:
    log, out = tmp_path / "session.jsonl", tmp_path / "recording.jsonl"
    serve = [sys.executable, "serve.py", "local", "--controller", "static:4", "--log", str(log), "--max-tokens", "64"]
    for prompt in ("def read(path):", "2 + 3 ="):
        subprocess.run([*serve, "--prompt", prompt], cwd=ROOT, check=True, capture_output=True, timeout=120)
    command = [sys.executable, "-m", "dsd_gym.record_acceptance", str(log), "--format", "runtime", "--out", str(out)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "2 requests" in said
    scenario = Scenario(acceptance=Acceptance("recorded", file=str(out)), max_requests=4)
    assert simulate(scenario, make_controller("awc", scenario.max_window), seed=0).rounds
