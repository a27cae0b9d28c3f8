"""What `serve.py` does: from its options to engines, edges and servers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agents import make_controller
from dsd_gym.config import ConfigError
from dsd_gym.observation import MAX_WINDOW
from runtime.address import host_and_port, is_loopback
from runtime.edge.client import RemoteTarget
from runtime.edge.console import answer
from runtime.edge.draft import Draft
from runtime.edge.edge import Edge
from runtime.edge.http.api import make_app
from runtime.edge.http.prompts import ApiLimits
from runtime.edge.http.server import serve_http
from runtime.edge.local import LocalTarget
from runtime.edge.log import SessionLog
from runtime.edge.retry import Backoff
from runtime.messages import Busy, Description, Disconnected, Refused, Sampling, Target
from runtime.model import LanguageModel
from runtime.pair import check_pair, fingerprint, load_tokenizer
from runtime.sampling import check, settled
from runtime.target.access import credentials
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from runtime.target.server import ServerOptions, serve_target
from runtime.tls import read_text

CONTEXTS, KV_SHARE = 16, 0.8
"""Memory for KV caches: so many contexts, at most this share of what a GPU has left beside the weights."""
UNSERVED = (Busy, Disconnected)
"""What ends a command although its options were right."""


async def target(options: argparse.Namespace) -> None:
    """Serve the target model over gRPC until a signal comes."""
    server = ServerOptions(
        listen=options.listen,
        tls_certificate=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.client_ca,
        tokens=options.tokens,
        insecure=options.insecure,
        metrics_port=options.metrics_port,
        idle_timeout_s=options.idle_timeout_s,
        max_sessions_per_client=options.sessions_per_client,
        grace_s=options.grace_s,
    )
    credentials(server)  # a mistake is told before a model is loaded
    engine = _engine(options)
    engine.start()
    try:
        await serve_target(engine, server)
    finally:
        engine.stop()


async def edge(options: argparse.Namespace) -> None:
    """Answer a prompt, or HTTP clients, with a target elsewhere."""
    remote = RemoteTarget(
        options.target,
        fingerprint(load_tokenizer(options.draft)),
        tls_ca=options.tls_ca,
        tls_certificate=options.tls_cert,
        tls_key=options.tls_key,
        token=_secret(options.token_file),
        insecure=options.insecure,
    )
    try:
        await _face(options, remote)
    except Refused as error:
        raise ConfigError(str(error)) from None
    finally:
        await remote.close()


async def local(options: argparse.Namespace) -> None:
    """Answer with both models in this process."""
    engine = _engine(options)
    engine.start()
    try:
        await _face(options, LocalTarget(engine))
    finally:
        engine.stop()


def _engine(options: argparse.Namespace) -> Engine:
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(options.model)
    model = LanguageModel.load(options.model, options.dtype, options.device)
    model.min_pass_ms = options.target_pass_ms
    limits = Limits(
        max_window=options.max_window,
        max_context_tokens=model.max_context_tokens,
        max_prompt_tokens=model.max_context_tokens,
        max_new_tokens=model.max_context_tokens,
        kv_budget_tokens=options.kv_budget or _kv_budget(model),
        max_queue=options.max_queue,
        max_batch_tokens=options.max_batch_tokens,
        chunk_tokens=options.cloud_chunk,
    )
    return Engine(model, fingerprint(tokenizer), limits)


def _kv_budget(model: LanguageModel) -> int:
    """Return the tokens of `CONTEXTS` contexts, or fewer where the memory beside the weights does not hold them."""
    tokens, free = CONTEXTS * model.max_context_tokens, model.free_bytes()
    return tokens if free is None else max(1, min(tokens, int(KV_SHARE * free) // model.cache_bytes_per_token))


async def _face(options: argparse.Namespace, target: Target) -> None:
    """Pair the draft with the target and show the face that was asked for."""
    address = host_and_port(options.http) if options.http else None
    if options.http and not (options.api_key_file or options.insecure or is_loopback(options.http)):
        raise ConfigError(f"--http {options.http}: whoever reaches it may use it; give --api-key-file, or --insecure")
    if options.controller == "oracle":
        raise ConfigError("oracle: reads the simulator; it cannot decide for real models")
    make_controller(options.controller, MAX_WINDOW)  # what is wrong is told before anything is loaded
    sampling = _sampling(options)
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(options.draft)
    draft = LanguageModel.load(options.draft, options.dtype, options.device)
    draft.min_pass_ms = options.draft_pass_ms
    description = await _described(target, options)
    check_pair(draft, tokenizer, description)
    edge = _edge(options, draft, target, description)
    try:
        if address is None:
            await answer(edge, tokenizer, options.prompt, sampling, options.max_tokens, options.chat)
            return
        context = min(draft.max_context_tokens, description.max_context_tokens)
        limits = ApiLimits(context, max_new_tokens=context)
        app = make_app(edge, tokenizer, description.model, limits, _secret(options.api_key_file))
        announce = partial(_announce, description.model, address[0])
        await _until_signal(serve_http(app, *address, ready=announce))
    except Refused as error:
        raise ConfigError(str(error)) from None
    finally:
        edge.close()


async def _described(target: Target, options: argparse.Namespace) -> Description:
    """Return what the target says of itself; one that is not there (yet) is looked for as long as a lost one."""
    if isinstance(target, LocalTarget):
        return await target.describe()
    backoff = Backoff(options.retry_for_s, lambda: 1000.0 * time.monotonic())
    for attempt in itertools.count():
        try:
            return await target.describe()
        except Disconnected as error:
            try:
                pause_ms = backoff.pause_ms(error)
            except Disconnected as last:
                raise Disconnected(f"--target {options.target}: {last}") from None
            if attempt == 0:
                print(f"{options.target}: not there; looking for it (--retry-for-s)", file=sys.stderr, flush=True)
            await asyncio.sleep(pause_ms / 1000.0)
    raise AssertionError("counting has no end")


def _sampling(options: argparse.Namespace) -> Sampling:
    """Return how a prompt's tokens are chosen; ConfigError where none could be."""
    sampling = Sampling(settled(options.temperature), options.top_p, options.top_k, options.seed)
    try:
        check(sampling)
    except Refused as error:
        raise ConfigError(str(error)) from None
    return sampling


def _edge(options: argparse.Namespace, draft: LanguageModel, target: Target, description: Description) -> Edge:
    log = None
    if options.log:
        log = SessionLog(options.log, controller=options.controller, draft=draft.name, target=description.model)
    return Edge(
        Draft(draft),
        target,
        make_controller(options.controller, description.max_window),
        max_window=description.max_window,
        fallback_window=min(options.fallback_window, description.max_window),
        log=log,
        retry_for_s=getattr(options, "retry_for_s", 0.0),
    )


async def _until_signal(serving: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGINT or SIGTERM, which end it in order."""
    task = asyncio.ensure_future(serving)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _secret(path: Path | None) -> str | None:
    """Return the first line of a file."""
    if path is None:
        return None
    lines = read_text(path, "secret").split()
    if len(lines) != 1:
        raise ConfigError(f"{path}: expected one secret and nothing else")
    return lines[0]


def _announce(model: str, host: str, port: int) -> None:
    print(f"serving {model} on http://{host}:{port}/v1", file=sys.stderr, flush=True)
