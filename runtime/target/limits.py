"""What a target allows, and whether it can ever serve a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from dsd_gym.config import ConfigError
from runtime.messages import Opening, Refused
from runtime.sampling import check


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a target; all are at least 1."""

    max_window: int = 16
    max_context_tokens: int = 8192
    """Prompt and output of a request together; never more than the model's."""
    max_prompt_tokens: int = 8192
    max_new_tokens: int = 2048
    kv_budget_tokens: int = 65_536
    """Tokens that all KV caches may hold together."""
    max_queue: int = 64
    """Requests that may wait for KV memory."""
    max_batch_tokens: int = 512
    """Tokens of one pass."""
    chunk_tokens: int = 8
    """Tokens that cloud decoding sends at a time."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a limit would let nothing through."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(f"{field.name}: {getattr(self, field.name)}; at least 1")
        if self.max_batch_tokens <= self.max_window:
            least = self.max_window + 1
            raise ConfigError(f"max_batch_tokens: {self.max_batch_tokens}; a window of max_window takes {least}")

    def within(self, model_context_tokens: int) -> Limits:
        """Return the limits with a context that the model can have."""
        context = min(self.max_context_tokens, model_context_tokens)
        prompt = min(self.max_prompt_tokens, context)
        return dataclasses.replace(self, max_context_tokens=context, max_prompt_tokens=prompt)


def check_opening(opening: Opening, limits: Limits, vocab_size: int) -> None:
    """Raise Refused, with the numbers, for a request that would not be served however long it waited."""
    prompt, most = len(opening.prompt), opening.max_new_tokens
    whole = prompt + most
    _check_range("prompt tokens", prompt, 1, limits.max_prompt_tokens)
    _check_range("max_new_tokens", most, 1, limits.max_new_tokens)
    _check_range("committed tokens", len(opening.committed), 0, most - 1)
    for room, name in ((limits.max_context_tokens, "the longest context"), (limits.kv_budget_tokens, "the KV budget")):
        if whole > room:
            raise Refused(f"{prompt} prompt tokens and max_new_tokens {most} need {whole} tokens; {name} is {room}")
    check_tokens(opening.prompt, vocab_size)
    check_tokens(opening.committed, vocab_size)
    check(opening.sampling)


def check_tokens(tokens: Sequence[int], vocab_size: int) -> None:
    """Raise Refused for a token that the model does not have."""
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
        wrong = next(token for token in tokens if not 0 <= token < vocab_size)
        raise Refused(f"token {wrong} is outside the vocabulary of {vocab_size}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise Refused(f"{name}: {value}; the target takes {least} to {most}")
