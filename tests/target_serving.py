"""A target server around a random tiny model, on a real port, and edges that know what it should answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch

from runtime.edge.client import RemoteTarget
from runtime.messages import Opening, Sampling, Stream
from runtime.model import LanguageModel
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from runtime.target.server import ServerOptions, TargetServer
from tests.tiny_models import random_model

TOKENIZER = "a fingerprint"
PROMPT = (3, 1, 4, 1, 5)
VOCABULARY = 64


@contextmanager
def started(**limits: int) -> Iterator[Engine]:
    """Run an engine."""
    torch.set_num_threads(1)
    engine = Engine(tiny_language_model(), TOKENIZER, Limits(**limits))
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def tiny_language_model() -> LanguageModel:
    """Return the same random model each time."""
    return LanguageModel(random_model(vocab_size=VOCABULARY), "tiny")


@asynccontextmanager
async def serving(engine: Engine | None = None, **options: Any) -> AsyncIterator[tuple[Engine, TargetServer]]:
    """Serve an engine that runs, or one of its own, on a free port of this machine."""
    with nullcontext(engine) if engine else started() as served:
        server = TargetServer(served, ServerOptions(**{"listen": "127.0.0.1:0", **options}))
        await server.start()
        try:
            yield served, server
        finally:
            await server.stop()


@asynccontextmanager
async def remote(port: int, tokenizer: str = TOKENIZER, **options: Any) -> AsyncIterator[RemoteTarget]:
    """Return a client of a port of this machine."""
    target = RemoteTarget(f"127.0.0.1:{port}", tokenizer, **options)
    try:
        yield target
    finally:
        await target.close()


@cache
def greedy(prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the model's own continuation, one token after another."""
    model = tiny_language_model()
    sequence, new, output = model.new_sequence(), list(prompt), []
    for _ in range(count):
        new = [int(model.forward([(sequence, new)], [1])[0].argmax())]
        output += new
    return tuple(output)


def request(count: int, prompt: Sequence[int] = PROMPT, committed: Sequence[int] = ()) -> Opening:
    """Return a greedy request."""
    return Opening(prompt, committed, count, Sampling())


async def speculate(
    stream: Stream, expected: Sequence[int], committed: Sequence[int] = (), window: int = 4
) -> list[int]:
    """Draft the expected tokens with every fifth one wrong, to the end of a request; return what is committed."""
    output = list(committed)
    drafted: list[int] = []
    while True:
        verdict = await stream.receive()
        assert verdict.position == len(output)
        output += [*drafted[: verdict.accepted], *verdict.tokens]
        if verdict.finish:
            await stream.close()
            return output
        places = range(len(output), min(len(output) + 4, len(expected)))
        drafted = [(expected[place] + (place % 5 == 0)) % VOCABULARY for place in places]
        await stream.verify(len(output), drafted, b"")


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for what must become true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
