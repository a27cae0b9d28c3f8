"""A random target, a draft that often agrees with it, and an edge around both in one process."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import torch
from tiny_models import random_model

from agents import make_controller
from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from runtime.edge.draft import Draft
from runtime.edge.edge import Edge, Progress
from runtime.edge.local import LocalTarget
from runtime.messages import Disconnected, Opening, Sampling, Stream, Target
from runtime.model import LanguageModel
from runtime.target.engine import Engine
from runtime.target.limits import Limits

GREEDY = Sampling()
TOKENS = 48
MAX_WINDOW = 16
PROMPTS = [[(7 * i + j) % 61 for j in range(length)] for i, length in enumerate((5, 23, 40, 1, 12))]

torch.set_num_threads(1)


class Switching(Controller):
    """Decide any window, at random, cloud decoding as often as all others."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return 0 or a window up to the longest."""
        return Decision(self._random.choice([0, self._random.randint(1, MAX_WINDOW)]))


class Script(Controller):
    """Answer with what is given, over and over; raise what is an exception. `asked` keeps the observations."""

    def __init__(self, *answers: Any) -> None:
        self._answers = itertools.cycle(answers)
        self.asked: list[Observation] = []

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next answer."""
        self.asked.append(observation)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return Decision(answer) if isinstance(answer, int) else answer


class FaultyTarget:
    """A target whose streams are lost in the calls of these numbers, counted from 1 over all streams."""

    def __init__(self, target: Target, faults: Sequence[int]) -> None:
        self._target, self._faults = target, set(faults)
        self.calls = 0

    def count(self) -> None:
        """Count a call; lose the connection in it if it is its turn."""
        self.calls += 1
        if self.calls in self._faults:
            raise Disconnected(f"call {self.calls} found nobody")

    async def open(self, opening: Opening) -> Any:
        """Begin a request."""
        self.count()
        return FaultyStream(self, await self._target.open(opening))


class FaultyStream:
    """Pass everything on, and count it."""

    def __init__(self, target: FaultyTarget, stream: Stream) -> None:
        self._target, self._stream = target, stream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        if name not in ("verify", "decode", "stop", "receive", "ping"):
            return found

        async def counted(*arguments: Any) -> Any:
            if name != "ping":  # runs beside the others: its number would not be the same twice
                self._target.count()
            return await found(*arguments)

        return counted


def target_model() -> Any:
    """Return the target's weights, always the same."""
    return random_model()


@cache
def language_models() -> tuple[LanguageModel, LanguageModel]:
    """Return target and draft; one engine and one edge at a time may use them."""
    return LanguageModel(target_model(), "target"), LanguageModel(draft_model(), "draft")


def draft_model(noise: float = 0.01) -> Any:
    """Return the target with noise on its weights: it guesses right about every other time."""
    model = target_model()
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += noise * torch.randn_like(weights)
    return model


def expected(prompt: Sequence[int], tokens: int = TOKENS) -> list[int]:
    """Return what transformers generates greedily."""
    return _generated(tuple(prompt))[:tokens]


@cache
def _generated(prompt: tuple[int, ...]) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    output = target_model().generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS)
    found: list[int] = output[0, len(prompt) :].tolist()
    return found


@asynccontextmanager
async def edge_with(
    controller: Controller | str,
    wrap: Callable[[LocalTarget], Any] = lambda target: target,
    ends: frozenset[int] = frozenset(),
    **options: Any,
) -> AsyncIterator[Edge]:
    """Yield an edge under `controller`, its target in the same process; both models have the end tokens `ends`."""
    model, draft = language_models()
    model.eos_tokens = draft.eos_tokens = ends
    engine = Engine(model, "same", Limits(max_batch_tokens=64, chunk_tokens=4))
    engine.start()
    chosen = make_controller(controller, MAX_WINDOW) if isinstance(controller, str) else controller
    edge = Edge(Draft(draft), wrap(LocalTarget(engine)), chosen, max_window=MAX_WINDOW, **options)
    try:
        yield edge
        assert await _left(engine) == 0
    finally:
        edge.close()
        engine.stop()


async def _left(engine: Engine) -> int:
    """Return the sessions that the target still has once passes in progress are over."""
    for _ in range(100):
        if not engine.sessions:
            break
        await asyncio.sleep(0.01)
    return engine.sessions


async def collect(edge: Edge, prompt: Sequence[int], sampling: Sampling = GREEDY, **options: Any) -> list[Progress]:
    """Return all progress of one request."""
    return [step async for step in edge.generate(prompt, sampling, **{"max_new_tokens": TOKENS} | options)]


def text(progress: Sequence[Progress]) -> list[int]:
    """Return the tokens."""
    return [token for step in progress for token in step.tokens]


def rounds_of(progress: Sequence[Progress]) -> list[Round]:
    """Return the rounds."""
    return [step.round for step in progress if step.round]
