"""Bodies of requests to the OpenAI API: what is taken, what is ignored and what is refused.

Every parameter is one of four: a field of the models below; one of `IGNORED`, which changes no text; one of `NEUTRAL`,
which is taken only with a value that asks for nothing; or unknown and refused. `null` is the same as not given.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError, from_json

from runtime.edge.http.errors import ApiError
from runtime.messages import Sampling
from runtime.sampling import settled

SEEDS = 1 << 63
"""Seeds are in [0, SEEDS); a negative one wraps."""
IGNORED = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "parallel_tool_calls",
}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "repetition_penalty": (1, 1.0),  # from here to use_beam_search vLLM's, whose benchmark sends the first
    "length_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "use_beam_search": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> list[str | list[int]]:
    """Return a list of prompts, each a string or token ids."""
    prompts = [value] if isinstance(value, str) or _are_tokens(value) else value
    if not (isinstance(prompts, list) and prompts and all(isinstance(p, str) or _are_tokens(p) for p in prompts)):
        raise PydanticCustomError("prompt", "Input should be a string, a list of token ids, or a list of these")
    return prompts


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(t) is int and 0 <= t < 1 << 32 for t in value)


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _without_empty(value: Any) -> Any:
    """Leave out what an answer of the API has as null or empty, so that it can be sent back as it came."""
    return {k: v for k, v in value.items() if v is not None and v != []} if isinstance(value, dict) else value


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class StreamOptions(_Body):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool = False  # taken, and never done


class GenerationRequest(_Body):
    """What both endpoints take; `top_k` and `ignore_eos` are vLLM's extensions."""

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, lt=1 << 31)
    seed: int | None = Field(None, ge=-SEEDS, lt=SEEDS)
    stop: Annotated[list[Stop], BeforeValidator(_listed), Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False

    @property
    def include_usage(self) -> bool:
        """Return whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> Sampling:
        """Return how tokens are chosen; without a seed, another one each time."""
        seed = secrets.randbelow(SEEDS) if self.seed is None else self.seed % SEEDS
        return Sampling(settled(self.temperature), self.top_p, max(self.top_k, 0), seed)


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: Annotated[list[str | list[int]], PlainValidator(_prompts)]


class TextPart(_Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class _Message(_Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[TextPart], BeforeValidator(_parts)]
    name: str | None = None  # of one speaker among several; no template here tells them apart

    @property
    def text(self) -> str:
        """Return the parts, each on lines of its own."""
        return "\n".join(part.text for part in self.content)


Message = Annotated[_Message, BeforeValidator(_without_empty)]


class ChatRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)


Request = TypeVar("Request", bound=GenerationRequest)


def parse(data: bytes, kind: type[Request]) -> Request:
    """Read a body; ApiError (400) names the first parameter that cannot be served."""
    try:
        body = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.", code="invalid_json")
    try:
        request = kind.model_validate(_supported(body, kind))
    except ValidationError as error:
        raise _refusal(error) from None
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options: only with stream set.", param="stream_options", code="invalid_value")
    return request


def _supported(body: dict[str, Any], kind: type[GenerationRequest]) -> dict[str, Any]:
    """Return the parameters that the model reads; ApiError for one that asks for something else."""
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name in kind.model_fields or name in IGNORED:
            continue
        if name not in NEUTRAL:
            known = name if len(name) <= 80 else f"{name[:80]}..."
            raise ApiError(400, f"{known}: no such parameter.", param=known, code="unknown_parameter")
        if not any(value == neutral and type(value) is type(neutral) for neutral in NEUTRAL[name]):
            raise ApiError(400, f"{name}: this value is not supported.", param=name, code="unsupported_parameter")
    return {name: value for name, value in given.items() if name in kind.model_fields}


def _refusal(error: ValidationError) -> ApiError:
    """Return the first mistake as OpenAI writes it, with a parameter like messages[0].content."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ""
    for part in first["loc"]:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else part
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param}: {first['msg']}.", param=param, code=code)
