"""Edges of a target engine in the same process: each knows what its text should become."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from random import Random
from typing import Any

import torch

from runtime.messages import Opening, Sampling, Verdict
from runtime.model import LanguageModel
from runtime.sampling import SparseProbs, draft_uniform, encode, sparse
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from tests.tiny_models import random_model

VOCABULARY = 64
TIE = 1e-4
"""Logits closer than this may change places when the pass has another shape."""
Plan = Callable[["Client"], int]
"""How long the next window is; negative: so many chunks of cloud decoding."""

torch.set_num_threads(1)
PLAIN = random_model(vocab_size=VOCABULARY)


class HeldModel(LanguageModel):
    """A model whose passes can be held, and made to fail."""

    def __init__(self, model: Any, name: str) -> None:
        self.go, self.inside, self.fail = threading.Event(), threading.Event(), False
        self.go.set()
        super().__init__(model, name)

    def forward(self, *arguments: Any, **more: Any) -> Any:
        """Wait to be let go."""
        self.inside.set()
        assert self.go.wait(30)
        if self.fail:
            self.fail = False
            raise RuntimeError("out of memory")
        return super().forward(*arguments, **more)

    def hold(self) -> None:
        """Hold the next pass."""
        self.go.clear()
        self.inside.clear()

    def held(self) -> None:
        """Wait until a pass is held."""
        assert self.inside.wait(30)


def tiny_model(kind: type[LanguageModel] = LanguageModel) -> Any:
    """Return `PLAIN` as the runtime serves it."""
    return kind(copy.deepcopy(PLAIN), "tiny")


@contextmanager
def serving(model: LanguageModel | None = None, **limits: int) -> Iterator[Engine]:
    """Run an engine."""
    engine = Engine(model or tiny_model(), "fingerprint", Limits(**limits))
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def generated(prompt: Sequence[int], count: int, plain: Any = PLAIN) -> list[int]:
    """Return what `transformers` continues a prompt with, greedily and past end tokens."""
    ids = torch.tensor([list(prompt)])
    mask = torch.ones_like(ids)
    output = plain.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, eos_token_id=None)
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def agree(prompt: Sequence[int], found: Sequence[int], wanted: Sequence[int], plain: Any = PLAIN) -> bool:
    """Return whether two outputs are equal up to the first tie."""
    differing = (place for place, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other)
    place = next(differing, None)
    if place is None:
        return True
    with torch.inference_mode():
        best = plain(torch.tensor([[*prompt, *wanted[:place]]])).logits[0, -1].topk(2).values
    return float(best[0] - best[1]) < TIE


def some_prompt(length: int, seed: int = 0, vocabulary: int = VOCABULARY) -> list[int]:
    """Return random tokens."""
    rng = Random(f"{length} {seed}")
    return [rng.randrange(vocabulary) for _ in range(length)]


class Client:
    """An edge that drafts what it knows to be right, now and then something wrong."""

    def __init__(self, engine: Engine, prompt: Sequence[int], wanted: Sequence[int], plan: Plan, **more: Any) -> None:
        """Open a request for as many tokens as are wanted; `more` goes into the opening."""
        opening = Opening(prompt, (), len(wanted), Sampling())._replace(**{"ignore_eos": True, **more})
        self.engine, self.prompt, self.wanted, self.plan = engine, prompt, wanted, plan
        self.sampling = opening.sampling
        self.output = list(opening.committed)
        self.inbox: Queue[Verdict | Exception] = Queue()
        self.verdicts: list[Verdict] = []
        self.window: list[int] = []
        self.chunks = 0
        self.session = engine.open(opening, self.inbox.put)

    def step(self) -> bool:
        """Take the next message and answer it; False when the request has ended."""
        verdict = self.receive()
        if not verdict.finish and verdict.final:
            self.act(self.plan(self))
        elif not verdict.final:
            self.chunks -= 1
            if self.chunks == 0:
                self.engine.stop_decoding(self.session)
        return not verdict.finish

    def receive(self) -> Verdict:
        """Take the next message."""
        message = self.inbox.get(timeout=30)
        if isinstance(message, Exception):
            raise message
        assert message.position == len(self.output)
        self.output += [*self.window[: message.accepted], *message.tokens]
        self.window = []
        self.verdicts.append(message)
        return message

    def act(self, plan: int) -> None:
        """Send a window, or have the target decode."""
        if plan < 0:
            self.chunks = -plan
            self.engine.decode(self.session, len(self.output))
        else:
            self.window, probs = self.draft(plan)
            self.engine.verify(self.session, len(self.output), self.window, encode(probs))

    def draft(self, window: int) -> tuple[list[int], list[SparseProbs]]:
        """Return drafted tokens: greedily every seventh one wrong; else drawn from what has nothing to do with it."""
        start = len(self.output)
        places = range(start, min(start + window, len(self.wanted)))
        if self.sampling.greedy:
            return [self.wanted[place] ^ (place % 7 == 6) for place in places], []
        probs = [sparse(some_probs(place)) for place in places]
        return [p.draw(draft_uniform(self.sampling, start, i)) for i, p in enumerate(probs)], probs


def some_probs(seed: int) -> torch.Tensor:
    """Return a random distribution over the vocabulary."""
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)).double().softmax(-1)


def run(clients: Sequence[Client]) -> None:
    """Live through all requests to their ends, each in a thread of its own."""

    def live(client: Client) -> None:
        while client.step():
            pass

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(live, clients))


def static(window: int) -> Plan:
    """Plan windows of one length."""
    return lambda client: window


def mixed(seed: int) -> Plan:
    """Plan windows of 0 to 6 tokens and up to three chunks of cloud decoding, at random."""
    rng = Random(seed)
    return lambda client: rng.randint(-3, 6)
