"""What the measurements stand on: the shipped pair, its target in a process of its own, requests and repeats."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from agents import make_controller
from dsd_gym.observation import MAX_WINDOW
from dsd_gym.records import Round
from runtime.edge.draft import Draft
from runtime.edge.edge import Edge
from runtime.messages import Sampling, Target
from runtime.model import LanguageModel
from runtime.pair import TINY_PAIR, fingerprint, load_tokenizer
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from runtime.target.server import ServerOptions, TargetServer
from runtime.tiny_pair.text import KINDS, prompts

TOKENS = 96
"""Output tokens of a request; end tokens are ignored, so that all sides do the same work."""
GREEDY = Sampling()


class Sample(NamedTuple):
    """Repeats of one figure: the median, the least and the largest."""

    median: float
    low: float
    high: float


def sample(values: list[float]) -> Sample:
    """Return the median and spread of repeats."""
    return Sample(*(round(value, 4) for value in (statistics.median(values), min(values), max(values))))


def tiny_prompts(count: int) -> list[list[int]]:
    """Return the tokens of `count` prompts, the kinds in turn."""
    tokenizer = load_tokenizer(TINY_PAIR / "target")
    by_kind = [prompts(kind, -(-count // len(KINDS)), seed=1) for kind in KINDS]
    texts = [text for turn in zip(*by_kind, strict=True) for text in turn][:count]
    return [tokenizer(text)["input_ids"] for text in texts]


def tiny_engine(min_pass_ms: float = 0.0) -> Engine:
    """Return an engine around the shipped target, not yet started."""
    model = LanguageModel.load(TINY_PAIR / "target", "float32")
    model.min_pass_ms = min_pass_ms
    limits = Limits(max_context_tokens=model.max_context_tokens, kv_budget_tokens=32 * model.max_context_tokens)
    return Engine(model, tiny_fingerprint(), limits)


def tiny_fingerprint() -> str:
    """Return the fingerprint of the shipped pair's vocabulary."""
    return fingerprint(load_tokenizer(TINY_PAIR / "draft"))


def tiny_edge(target: Target, spec: str, min_pass_ms: float = 0.0) -> Edge:
    """Return an edge with the shipped draft under the controller `spec`."""
    model = LanguageModel.load(TINY_PAIR / "draft", "float32")
    model.min_pass_ms = min_pass_ms
    return Edge(Draft(model), target, make_controller(spec, MAX_WINDOW), max_window=MAX_WINDOW)


@contextmanager
def target_process(min_pass_ms: float = 0.0) -> Iterator[str]:
    """Run a gRPC target around the shipped model in a process of its own and yield its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, min_pass_ms), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, min_pass_ms: float) -> None:
    torch.set_num_threads(1)

    async def serve() -> None:
        engine = tiny_engine(min_pass_ms)
        engine.start()
        server = TargetServer(engine, ServerOptions(listen="127.0.0.1:0"))
        await server.start()
        pipe.send(server.port)
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def link_process(target: str, rtt_ms: float) -> Iterator[str]:
    """Run an emulated link to `target` in a process of its own and yield its address."""
    command = [sys.executable, "-m", "runtime.link", "--listen", "127.0.0.1:0", "--to", target]
    process = subprocess.Popen([*command, "--rtt-ms", str(rtt_ms)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.terminate()
        process.wait()


async def run(edge: Edge, prompt: list[int], tokens: int = TOKENS) -> list[Round]:
    """Generate once, greedily, and return the rounds."""
    progress = [step async for step in edge.generate(prompt, GREEDY, tokens, ignore_eos=True)]
    return [step.round for step in progress if step.round is not None]


async def tokens_per_s(edge: Edge, requests: list[list[int]], at_once: int = 1) -> float:
    """Return the output tokens a second of all requests, `at_once` of them at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(prompt: list[int]) -> None:
        async with gate:
            await run(edge, prompt)

    start = time.perf_counter()
    await asyncio.gather(*(one(prompt) for prompt in requests))
    return len(requests) * TOKENS / (time.perf_counter() - start)


async def ratio(first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]], repeats: int) -> Sample:
    """Return `first` over `second`, run in turn `repeats` times after one of each that does not count."""
    await first(), await second()
    return sample([await first() / await second() for _ in range(repeats)])
