"""Tokens a second over an emulated link, for fixed windows, cloud decoding, a rule and the shipped policy.

Two tables: the tiny pair as it is, whose target is nearly as quick as a message, and the same pair with passes
stretched to the times of a large pair (`PACED`), where a round trip weighs less against a pass.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import NamedTuple

from runtime.edge.client import RemoteTarget
from runtime.edge.edge import Edge
from runtime.measure.rig import (
    Sample,
    link_process,
    run,
    sample,
    target_process,
    tiny_edge,
    tiny_fingerprint,
    tiny_prompts,
)

CONTROLLERS = ("static:0", "static:2", "static:4", "static:8", "awc", "policies/edge_cloud.safetensors")
RTTS_MS = (20.0, 80.0)
TOKENS = 64


class Pace(NamedTuple):
    """The least ms of a target pass and of a draft pass."""

    target_ms: float
    draft_ms: float


AS_IS = Pace(0.0, 0.0)
PACED = Pace(40.0, 4.0)
"""About a 70B model on four A100s, and a 1B draft on a small GPU (`configs/hardware.yaml`)."""


class Cell(NamedTuple):
    """One controller at one round trip."""

    rtt_ms: float
    controller: str
    tokens_s: Sample
    mean_window: float
    cloud_share: float


async def link_table(pace: Pace, repeats: int, requests: int) -> list[Cell]:
    """Return tokens/s of each controller at each round trip; controllers take turns within a repeat."""
    cells = []
    with target_process(pace.target_ms) as address:
        for rtt_ms in RTTS_MS:
            with link_process(address, rtt_ms) as link:
                edges = {
                    spec: tiny_edge(RemoteTarget(link, tiny_fingerprint()), spec, pace.draft_ms) for spec in CONTROLLERS
                }
                cells += await _row(rtt_ms, edges, repeats, tiny_prompts(requests))
    return cells


async def _row(rtt_ms: float, edges: dict[str, Edge], repeats: int, prompts: list[list[int]]) -> list[Cell]:
    rates: dict[str, list[float]] = {spec: [] for spec in edges}
    rounds: dict[str, list[tuple[int, int]]] = {spec: [] for spec in edges}
    for edge in edges.values():
        await run(edge, prompts[0], TOKENS)  # connects, and meets what is met once
    for _, (spec, edge) in itertools.product(range(repeats), edges.items()):
        start = time.perf_counter()
        for prompt in prompts:
            rounds[spec] += [(round.window, round.committed) for round in await run(edge, prompt, TOKENS)]
        rates[spec].append(len(prompts) * TOKENS / (time.perf_counter() - start))
    return [Cell(rtt_ms, spec, sample(rates[spec]), *_windows(rounds[spec])) for spec in edges]


def _windows(rounds: list[tuple[int, int]]) -> tuple[float, float]:
    """Return the mean window at the edge and the share of tokens decoded in the cloud."""
    edge = [window for window, _ in rounds if window]
    cloud = sum(committed for window, committed in rounds if not window)
    return sum(edge) / max(1, len(edge)), cloud / max(1, sum(committed for _, committed in rounds))


def measure_links(repeats: int = 3, requests: int = 5) -> dict[str, list[Cell]]:
    """Return both tables."""
    return {
        name: asyncio.run(link_table(pace, repeats, requests)) for name, pace in (("as is", AS_IS), ("paced", PACED))
    }
