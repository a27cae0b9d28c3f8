"""Applications on real ports, in the event loop of a thread of their own, beside the tests; and what they serve."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.types import ASGIApp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from runtime.edge.http.server import serve_http
from runtime.messages import Finish

PATIENCE_S = 20.0


@contextlib.contextmanager
def serving(*apps: ASGIApp) -> Iterator[Sequence[str]]:
    """Serve applications, and give the URL of each."""
    ports: dict[int, int] = {}
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        ready = [lambda port, index=index: ports.__setitem__(index, port) for index in range(len(apps))]
        await asyncio.gather(*(serve_http(app, "127.0.0.1", 0, ready[i], grace_s=1) for i, app in enumerate(apps)))

    served = loop.create_task(serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([served])), daemon=True)
    thread.start()
    wait_until(lambda: len(ports) == len(apps))
    try:
        yield [f"http://127.0.0.1:{ports[index]}" for index in range(len(apps))]
    finally:
        loop.call_soon_threadsafe(served.cancel)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server does not end"
        loop.close()


def begun(url: str, body: dict[str, Any]) -> socket.socket:
    """Return the connection of a request whose answer nobody has read."""
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    connection.sendall(head.encode() + b"\r\n\r\n" + data)
    return connection


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Return as soon as something is true; fail where it does not become so."""
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "still not so"
        time.sleep(0.005)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of 320 tokens, the first of which ends a text."""
    coder = Tokenizer(models.BPE())
    coder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    coder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    coder.train_from_iterator(["the cat sat on the mat and then that hat was at the end of the band"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=coder, eos_token="<end>")


class Words(NamedTuple):
    tokens: list[int]
    finish: Finish


class ScriptedEdge:
    """Says `cat` twice and ends; `error` comes instead of the first or the second word. Waits while not `free`."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.word = tokenizer.encode("cat", add_special_tokens=False)
        self.free = threading.Event()
        self.open = 0
        self.reset()

    def reset(self) -> None:
        self.error: Exception | None = None
        self.words_before_error = 0
        self.free.set()

    async def generate(self, *_: Any) -> AsyncIterator[Words]:
        self.open += 1
        try:
            while not self.free.is_set():
                await asyncio.sleep(0.005)
            for word in range(2):
                if self.error and word == self.words_before_error:
                    raise self.error
                yield Words(self.word, "length" if word else "")
        finally:
            await asyncio.sleep(0)  # a farewell takes a moment
            self.open -= 1
