"""How fast the runtime is with the shipped pair: against `generate`, over gRPC, for many sessions, and its overhead.

Every figure compares things that were run in turn, in one process or beside one target process; medians of repeats
with their spread, because machines are noisy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from dsd_gym.observation import Observation
from dsd_gym.records import Decision
from runtime.edge.client import RemoteTarget
from runtime.edge.edge import Edge
from runtime.edge.local import LocalTarget
from runtime.measure.rig import (
    GREEDY,
    TOKENS,
    Sample,
    ratio,
    run,
    sample,
    target_process,
    tiny_edge,
    tiny_engine,
    tiny_fingerprint,
    tiny_prompts,
    tokens_per_s,
)
from runtime.pair import TINY_PAIR

WINDOW = 4
POLICY = "policies/edge_cloud.safetensors"


def generate_tokens_per_s(requests: list[list[int]], target: Any, draft: Any) -> float:
    """Return the tokens a second of transformers' assisted generation with a constant window."""
    draft.generation_config.num_assistant_tokens = WINDOW
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0
    start = time.perf_counter()
    for prompt in requests:
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        output = target.generate(
            ids, attention_mask=mask, assistant_model=draft, do_sample=False, max_new_tokens=TOKENS, eos_token_id=None
        )
        assert output.shape[1] == len(prompt) + TOKENS
    return len(requests) * TOKENS / (time.perf_counter() - start)


@asynccontextmanager
async def local_edge(spec: str) -> AsyncIterator[Edge]:
    """Yield an edge with the target in the same process."""
    engine = tiny_engine()
    engine.start()
    try:
        yield tiny_edge(LocalTarget(engine), spec)
    finally:
        engine.stop()


async def local_vs_generate(repeats: int, requests: list[list[int]]) -> Sample:
    """Return the tokens/s of both ends in one process against `generate(assistant_model=...)`, same pair and window."""
    models = [AutoModelForCausalLM.from_pretrained(TINY_PAIR / end, dtype=torch.float32) for end in ("target", "draft")]

    async def theirs() -> float:
        return generate_tokens_per_s(requests, *models)

    async with local_edge(f"static:{WINDOW}") as edge:
        return await ratio(lambda: tokens_per_s(edge, requests), theirs, repeats)


async def grpc_vs_local(repeats: int, requests: list[list[int]]) -> Sample:
    """Return the tokens/s over loopback gRPC, the target in its own process, against both ends in this one."""
    with target_process() as address:
        async with local_edge(f"static:{WINDOW}") as local:
            remote = tiny_edge(RemoteTarget(address, tiny_fingerprint()), f"static:{WINDOW}")
            return await ratio(
                lambda: tokens_per_s(remote, requests), lambda: tokens_per_s(local, requests), repeats
            )


async def batching_gain(repeats: int, spec: str, sessions: int = 8) -> Sample:
    """Return the tokens/s of `sessions` at once against the same sessions one at a time, over loopback gRPC."""
    requests = tiny_prompts(sessions)
    with target_process() as address:
        edge = tiny_edge(RemoteTarget(address, tiny_fingerprint()), spec)
        return await ratio(
            lambda: tokens_per_s(edge, requests, sessions), lambda: tokens_per_s(edge, requests), repeats
        )


async def overhead_ms_per_round(requests: list[list[int]]) -> Sample:
    """Return the ms of a round that are neither the draft's passes nor the target's, both ends in one process."""
    spent: list[float] = []
    async with local_edge(f"static:{WINDOW}") as edge:
        for prompt in requests:
            drafted_ms = edge.draft.busy_ms
            async for step in edge.generate(prompt, GREEDY, TOKENS, ignore_eos=True):
                if step.round is not None and step.round.window:
                    spent.append(step.round.elapsed_ms - step.round.iteration_ms - (edge.draft.busy_ms - drafted_ms))
                drafted_ms = edge.draft.busy_ms
    return sample(spent)


async def controller_share(spec: str, requests: list[list[int]]) -> float:
    """Return the median share of a round that goes into `controller.decide`, both ends in one process."""
    async with local_edge(spec) as edge:
        decided: list[float] = []
        controller, decide = edge.controller, edge.controller.decide

        def timed(observation: Observation, stream: int) -> Decision:
            start = time.perf_counter()
            decision = decide(observation, stream)
            decided.append((time.perf_counter() - start) * 1000.0)
            return decision

        controller.decide = timed  # type: ignore[method-assign]
        rounds = [round for prompt in requests for round in await run(edge, prompt)]
    return statistics.median(decided) / statistics.median(round.elapsed_ms for round in rounds)


async def measure_runtime(repeats: int = 5, requests: int = 5) -> dict[str, Any]:
    """Return every figure by name, spreads included."""
    torch.set_num_threads(1)
    asked = tiny_prompts(requests)
    return {
        "local_vs_generate": (await local_vs_generate(repeats, asked))._asdict(),
        "grpc_vs_local": (await grpc_vs_local(repeats, asked))._asdict(),
        "overhead_ms_per_round": (await overhead_ms_per_round(asked))._asdict(),
        "batching_gain_8": (await batching_gain(repeats, f"static:{WINDOW}"))._asdict(),
        "batching_gain_8_cloud": (await batching_gain(repeats, "static:0"))._asdict(),
        "controller_share": {spec: round(await controller_share(spec, asked[:2]), 4) for spec in ("awc", POLICY)},
    }
