"""An edge with its API, its draft and its target, all running in this process."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import torch
from transformers import PreTrainedTokenizerFast

from agents import make_controller
from runtime.edge.draft import Draft
from runtime.edge.edge import Edge
from runtime.edge.http.api import make_app
from runtime.edge.http.prompts import ApiLimits
from runtime.edge.local import LocalTarget
from runtime.model import LanguageModel
from runtime.pair import fingerprint
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from tests.serving import serving, small_tokenizer
from tests.tiny_models import random_model

torch.set_num_threads(1)

CONTEXT = 512
PROMPT = "the cat sat"
ENDING = "a prompt that the end token follows"


@dataclass
class World:
    """All of it: what serves, and what it should say."""

    url: str
    engine: Engine
    edge: Edge
    tokenizer: PreTrainedTokenizerFast
    reference: Any
    pass_ms: float = 0.0
    """Added to every pass of the target."""

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def complete(self, prompt: Any = PROMPT, most: int = 60, *, ignore_eos: bool = True, **more: Any) -> Any:
        """Ask for a completion; greedily, unless told otherwise."""
        ask = {"model": "org/tiny", "prompt": prompt, "max_tokens": most, "temperature": 0, **more}
        return self.client.completions.create(**ask, extra_body={"ignore_eos": ignore_eos})

    def greedy(self, prompt: str, most: int, *, ignore_eos: bool = True) -> list[int]:
        """Return the tokens that `transformers` generates."""
        ids = torch.tensor([self.tokenizer.encode(prompt)])
        self.reference.generation_config.eos_token_id = None if ignore_eos else 0
        said = self.reference.generate(ids, do_sample=False, max_new_tokens=most, pad_token_id=0)
        return said[0, ids.shape[1] :].tolist()

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def idle(self) -> bool:
        """Return whether nobody is being served, and nothing held."""
        return self.engine.sessions == 0 and self.engine.kv_tokens_used == 0


def target_and_draft(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Return a random target that ends ENDING some tokens on, and a draft that often agrees with it."""
    target = random_model(vocab_size=len(tokenizer))
    ids = torch.tensor([tokenizer.encode(ENDING)])
    with torch.inference_mode():
        said = target.generate(ids, do_sample=False, max_new_tokens=30, pad_token_id=0)[0, ids.shape[1] :].tolist()
        last = max(said.index(token) for token in said)
        assert last > 3
        rows = target.get_output_embeddings().weight
        rows[0] = 1.01 * rows[said[last]]  # wins wherever that token would have
        target.generation_config.eos_token_id = 0
        draft = copy.deepcopy(target)
        for weights in draft.parameters():
            weights += 0.02 * torch.randn_like(weights)
    return target, draft


@contextlib.contextmanager
def running_world() -> Iterator[World]:
    """Start all of it, and give it."""
    tokenizer = small_tokenizer()
    target, draft = target_and_draft(tokenizer)
    reference = copy.deepcopy(target)
    engine = Engine(LanguageModel(target, "target"), fingerprint(tokenizer), Limits())
    engine.start()
    controller = make_controller("static:2", 16)
    edge = Edge(Draft(LanguageModel(draft, "draft")), LocalTarget(engine), controller, max_window=16)
    limits = ApiLimits(max_context_tokens=CONTEXT, max_new_tokens=500, max_requests=16)
    with serving(make_app(edge, tokenizer, "org/tiny", limits)) as (url,):
        world = World(url, engine, edge, tokenizer, reference)
        engine.observer = lambda _: time.sleep(world.pass_ms / 1000.0)
        yield world
    edge.close()
    engine.stop()
