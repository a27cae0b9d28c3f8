"""Answers of the OpenAI API: the shapes of whole answers and of the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from runtime.messages import Finish


class Piece(NamedTuple):
    """Text that was added to a choice, or all of it."""

    choice: int
    text: str
    finish: Finish
    tokens: int
    """Tokens of the choice so far."""


class Shape(ABC):
    """The answer to one request. Chunks come for pieces as they are, a whole answer for whole choices."""

    prefix: ClassVar[str]
    object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, model: str, prompt_tokens: int, include_usage: bool) -> None:
        self._common = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._prompt_tokens = prompt_tokens
        self._include_usage = include_usage

    def whole(self, choices: Sequence[Piece]) -> dict[str, Any]:
        """Return the answer that is not streamed."""
        listed = [
            {"index": c.choice, **self._content(c.text), "logprobs": None, "finish_reason": c.finish} for c in choices
        ]
        return {**self._common, "object": self.object, "choices": listed, "usage": self._usage(choices)}

    def chunks(self, piece: Piece, first: bool) -> Iterator[dict[str, Any]]:
        """Yield what is sent for a piece, which may be the first of its choice."""
        if first:
            yield from (self._chunk(piece.choice, delta, None) for delta in self._opening())
        if piece.text:
            yield self._chunk(piece.choice, self._delta(piece.text), None)
        if piece.finish:
            yield self._chunk(piece.choice, self._delta(""), piece.finish)

    def end(self, choices: Sequence[Piece]) -> Iterator[dict[str, Any]]:
        """Yield what ends a stream."""
        if self._include_usage:
            yield {**self._common, "object": self.chunk_object, "choices": [], "usage": self._usage(choices)}

    def _chunk(self, index: int, delta: dict[str, Any], finish: Finish | None) -> dict[str, Any]:
        choice = {"index": index, **delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._common, "object": self.chunk_object, "choices": [choice], **usage}

    def _usage(self, choices: Sequence[Piece]) -> dict[str, int]:
        generated = sum(choice.tokens for choice in choices)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self._prompt_tokens + generated,
        }

    @abstractmethod
    def _content(self, text: str) -> dict[str, Any]:
        """Return a choice's text in a whole answer."""

    @abstractmethod
    def _delta(self, text: str) -> dict[str, Any]:
        """Return a choice's added text in a chunk."""

    def _opening(self) -> Sequence[dict[str, Any]]:
        return ()


class CompletionShape(Shape):
    """The answer of POST /v1/completions; chunks and whole answers are alike."""

    prefix = "cmpl"
    object = chunk_object = "text_completion"

    def _content(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"text": text}


class ChatShape(Shape):
    """The answer of POST /v1/chat/completions."""

    prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def _opening(self) -> Sequence[dict[str, Any]]:
        return ({"delta": {"role": "assistant", "content": ""}},)
