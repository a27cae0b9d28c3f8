"""From prompts and messages to tokens that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from runtime.edge.http.errors import ApiError
from runtime.edge.http.requests import ChatRequest, CompletionRequest
from runtime.edge.text import backend

COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions; a chat goes on to the limit."""


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What one server takes."""

    max_context_tokens: int
    """Prompt and output together, of the smaller of the two models."""
    max_new_tokens: int = 2048
    """More are refused."""
    chat_tokens: int = 2048
    """What a chat that says nothing of it may generate: memory is kept for so many."""
    max_requests: int = 64
    """Choices generated at once; more get 429."""
    max_body_bytes: int = 4 << 20


def completion_prompts(request: CompletionRequest, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the tokens of each prompt; ApiError for an empty one or a token that does not exist."""
    coder = backend(tokenizer)
    prompts = [coder.encode(prompt).ids if isinstance(prompt, str) else prompt for prompt in request.prompt]
    for prompt in prompts:
        if not prompt:
            raise ApiError(400, "prompt: must not be empty.", param="prompt", code="invalid_value")
        unknown = next((token for token in prompt if coder.id_to_token(token) is None), None)
        if unknown is not None:
            raise ApiError(400, f"prompt: there is no token {unknown}.", param="prompt", code="invalid_value")
    return prompts


def chat_prompt(request: ChatRequest, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of a conversation, by the tokenizer's chat template or, without one, the plain one."""
    roles = ("system" if message.role == "developer" else message.role for message in request.messages)
    messages = [{"role": role, "content": message.text} for role, message in zip(roles, request.messages, strict=True)]
    if not tokenizer.chat_template:
        return backend(tokenizer).encode(plain_template(messages)).ids
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        message = f"messages: refused by the chat template: {error}."
        raise ApiError(400, message, param="messages", code="invalid_value") from None
    return backend(tokenizer).encode(str(text), add_special_tokens=False).ids  # the template writes them itself


def plain_template(messages: Sequence[dict[str, str]]) -> str:
    """Write a conversation for a model that knows no chats: `role: content` lines, the last one left open."""
    return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant:"


def new_tokens(prompt: Sequence[int], wanted: int | None, limits: ApiLimits, param: str) -> int:
    """Return how many tokens may follow a prompt: as wanted, else as fit; ApiError where they do not fit."""
    if wanted is not None and wanted > limits.max_new_tokens:
        message = f"{param}: {wanted} is more than the {limits.max_new_tokens} tokens that are generated at most."
        raise ApiError(400, message, param=param, code="invalid_value")
    left = limits.max_context_tokens - len(prompt)
    if left < (wanted or 1):
        message = (
            f"The context holds {limits.max_context_tokens} tokens, and you ask for {len(prompt) + (wanted or 1)}: "
            f"{len(prompt)} of the prompt and {wanted or 'at least 1'} to generate."
        )
        raise ApiError(400, message, code="context_length_exceeded")
    return wanted or min(left, limits.max_new_tokens, limits.chat_tokens)
