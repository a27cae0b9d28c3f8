"""The edge as an OpenAI-compatible server: the routes, and how a request is answered.

    app = make_app(edge, tokenizer, "my-model", ApiLimits(max_context_tokens=2048))
    await serve_http(app, "127.0.0.1", 8000)

GET /v1/models, /v1/models/{id}, /health; POST /v1/completions, /v1/chat/completions. `requests.py` says which
parameters are served. An error before the first text has its own status; a later one ends the stream with an `error`
object and without `[DONE]`. A client that goes away ends its request, at the target too.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from transformers import PreTrainedTokenizerBase

from runtime.edge.http.answers import Answer
from runtime.edge.http.errors import ApiError, on_api_error, on_http_error
from runtime.edge.http.generation import Desk, Generator, Job
from runtime.edge.http.prompts import COMPLETION_TOKENS, ApiLimits, chat_prompt, completion_prompts, new_tokens
from runtime.edge.http.requests import ChatRequest, CompletionRequest, GenerationRequest, parse
from runtime.edge.http.responses import ChatShape, CompletionShape
from runtime.edge.text import backend


def make_app(
    edge: Generator,
    tokenizer: PreTrainedTokenizerBase,
    model_name: str,
    limits: ApiLimits,
    api_key: str | None = None,
) -> Starlette:
    """Return the ASGI application; with an `api_key`, all of /v1 asks for it as a bearer token."""
    coder = backend(tokenizer)
    coder.no_truncation()
    coder.no_padding()
    api = _Api(Desk(edge, tokenizer, limits.max_requests), tokenizer, model_name, limits)
    routes = [
        Route("/health", api.health),
        Route("/v1/models", api.models),
        Route("/v1/models/{model:path}", api.model),
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
    ]
    handlers: Any = dict.fromkeys((ApiError, ClientDisconnect, Exception), on_api_error) | {
        HTTPException: on_http_error
    }
    guards = [] if api_key is None else [Middleware(_Guard, api_key=api_key)]
    return Starlette(routes=routes, middleware=guards, exception_handlers=handlers)


class _Api:
    """The endpoints."""

    def __init__(self, desk: Desk, tokenizer: PreTrainedTokenizerBase, model_name: str, limits: ApiLimits) -> None:
        self._desk = desk
        self._tokenizer = tokenizer
        self._limits = limits
        self._name = model_name
        self._model = {"id": model_name, "object": "model", "created": int(time.time()), "owned_by": "dsd-gym"}

    async def health(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "active": self._desk.active})

    async def models(self, _: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [self._model]})

    async def model(self, request: Request) -> JSONResponse:
        self._check_model(request.path_params["model"])
        return JSONResponse(self._model)

    async def completions(self, request: Request) -> Answer:
        asked = parse(await _body(request, self._limits.max_body_bytes), CompletionRequest)
        self._check_model(asked.model)
        prompts = await asyncio.to_thread(completion_prompts, asked, self._tokenizer)
        wanted = asked.max_tokens or COMPLETION_TOKENS
        jobs = [self._job(asked, prompt, wanted, "max_tokens")._replace(continues=True) for prompt in prompts]
        shape = CompletionShape(self._name, sum(map(len, prompts)), asked.include_usage)
        return Answer(self._desk, jobs, shape, asked.stream)

    async def chat(self, request: Request) -> Answer:
        asked = parse(await _body(request, self._limits.max_body_bytes), ChatRequest)
        self._check_model(asked.model)
        prompt = await asyncio.to_thread(chat_prompt, asked, self._tokenizer)
        wanted = asked.max_completion_tokens or asked.max_tokens
        param = "max_completion_tokens" if asked.max_completion_tokens else "max_tokens"
        job = self._job(asked, prompt, wanted, param)
        return Answer(self._desk, [job], ChatShape(self._name, len(prompt), asked.include_usage), asked.stream)

    def _job(self, asked: GenerationRequest, prompt: Sequence[int], wanted: int | None, param: str) -> Job:
        allowed = new_tokens(prompt, wanted, self._limits, param)
        return Job(prompt, asked.sampling(), allowed, asked.ignore_eos, asked.stop)

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self._name):
            message = f"The model does not exist; this server has {self._name}."
            raise ApiError(404, message, param="model", code="model_not_found")


class _Guard:
    """Let a request pass only with the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1") or self._knows(scope):
            await self._app(scope, receive, send)
        else:
            refusal = ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
            refusal.headers["www-authenticate"] = "Bearer"
            await refusal.response()(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        return secrets.compare_digest(dict(scope["headers"]).get(b"authorization", b""), self._key)


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a JSON request; ApiError where it is something else or too large."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":  # any other, or none, a page in a browser may send anywhere without asking first
        raise ApiError(415, "Send the body with Content-Type: application/json.", code="unsupported_media_type")
    too_large = ApiError(413, f"The body is larger than {most} bytes.", code="request_too_large")
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)
