"""Minutes of faults at random: python -m pytest -m soak tests/test_runtime_faults_soak.py

DSD_SOAK_S=3600 makes it an hour, DSD_SOAK_SEED=7 other faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dsd_gym.scenario import LinkSpec
from runtime.edge.edge import Edge
from runtime.link import EmulatedLink
from tests.fault_world import TOKENS, TargetProcess, Windows, edge_to, expected, generated, prompts, target_process

LENGTH_S = float(os.environ.get("DSD_SOAK_S", "240"))
SEED = int(os.environ.get("DSD_SOAK_SEED", "0"))
STREAMS = 6
PATIENCE: dict[str, Any] = {"silence_timeout_s": 2.0, "connect_timeout_s": 2.0}


@pytest.mark.soak
def test_texts_stay_right_through_minutes_of_random_faults(tmp_path: Path) -> None:
    done: Counter[str] = Counter()

    async def requests(edge: Edge, number: int, end_s: float) -> None:
        luck = random.Random(f"{SEED} {number}")
        while time.monotonic() < end_s:
            await generated(edge, luck.choice(prompts()), luck.randint(1, TOKENS))
            done["requests"] += 1

    async def faults(target: TargetProcess, link: EmulatedLink, end_s: float) -> None:
        luck = random.Random(SEED)
        while time.monotonic() < end_s:
            await asyncio.sleep(luck.uniform(0.0, 3.0))
            fault = luck.choice(("kill", "pause", "cut", "reset", "refuse", "change", "change"))
            done[fault] += 1
            await strike(fault, target, link, luck)
        link.change(loss=0.0, rtt_ms=5.0, jitter_ms=0.0)

    async def strike(fault: str, target: TargetProcess, link: EmulatedLink, luck: random.Random) -> None:
        if fault == "kill":
            target.kill()
            await asyncio.to_thread(target.start)
        elif fault == "pause":
            target.pause()
            await asyncio.sleep(luck.uniform(0.0, 4.0))
            target.resume()
        elif fault == "cut":
            link.cut(luck.uniform(0.0, 4.0))
        elif fault == "change":
            rtt_ms, jitter_ms = luck.choice((1.0, 20.0, 300.0)), luck.choice((0.0, 10.0))
            link.change(loss=luck.choice((0.0, 0.01)), rtt_ms=rtt_ms, jitter_ms=jitter_ms)
        else:
            link.refuse = fault == "refuse"
            link.break_connections()
            await asyncio.sleep(luck.uniform(0.0, 2.0))
            link.refuse = False

    async def run(target: TargetProcess, link: EmulatedLink) -> None:
        modes = Windows((4,), (0,), (0, 0, 3), (1, 16, 0))
        async with edge_to(link.port, modes, retry_for_s=120.0, **PATIENCE) as (edge, _):
            end_s = time.monotonic() + LENGTH_S
            streams = (requests(edge, number, end_s) for number in range(STREAMS))
            await asyncio.gather(faults(target, link, end_s), *streams)
            done["reconnects"] = edge.reconnects

    for prompt in prompts():
        expected(prompt)
    with target_process(tmp_path) as target:
        with EmulatedLink(("127.0.0.1", target.port), LinkSpec(), seed=SEED).in_thread() as link:
            asyncio.run(run(target, link))
        target.ready()
    print(dict(done))
    assert done["requests"] > LENGTH_S / 10 and done["reconnects"] > LENGTH_S / 10
    assert done["kill"] > 0
