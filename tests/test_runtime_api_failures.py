"""What the OpenAI API does when the target fails, when too many come, and when what comes is no request."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from dsd_gym.config import ConfigError
from runtime.edge.http.api import make_app
from runtime.edge.http.prompts import ApiLimits
from runtime.edge.http.server import serve_http
from runtime.messages import Busy, Disconnected, Failed, Misfit, Refused
from tests.serving import ScriptedEdge, begun, serving, small_tokenizer, wait_until

TOKENIZER = small_tokenizer()
LIMITS = ApiLimits(max_context_tokens=64, max_new_tokens=40, max_requests=3, max_body_bytes=10_000)
EDGE = ScriptedEdge(TOKENIZER)
JSON = {"Content-Type": "application/json"}
APP = make_app(EDGE, TOKENIZER, "m", LIMITS)


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """Serve the scripted edge, without and with a key."""
    with serving(APP, make_app(EDGE, TOKENIZER, "m", LIMITS, api_key="the key")) as urls:
        yield list(urls)


@pytest.fixture
def client(urls: list[str]) -> Iterator[openai.OpenAI]:
    EDGE.reset()
    with openai.OpenAI(base_url=f"{urls[0]}/v1", api_key="none", max_retries=0) as client:
        yield client
    EDGE.reset()


def complete(client: openai.OpenAI, **more: Any) -> Any:
    return client.completions.create(**{"model": "m", "prompt": "the cat", **more})


def request(url: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body of the answer to a request that no client library would make."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, json.load(answer)
    finally:
        connection.close()


def test_asks_for_the_key_where_there_is_one(client: openai.OpenAI, urls: list[str]) -> None:
    right = client.with_options(base_url=f"{urls[1]}/v1", api_key="the key")
    assert right.models.list() and complete(right)
    wrong = right.with_options(api_key="a key")
    for ask in (wrong.models.list, lambda: complete(wrong)):
        with pytest.raises(openai.AuthenticationError) as raised:
            ask()
        assert raised.value.code == "invalid_api_key"
    assert request(urls[1], "GET", "/v1/models", Authorization="Bearer k\xe9y")[0] == 401
    assert request(urls[1], "GET", "/v1/models")[0] == 401
    assert request(urls[1], "GET", "/health")[0] == 200


def test_what_goes_wrong_at_the_target_has_a_status_of_its_own(client: openai.OpenAI) -> None:
    EDGE.error = Busy("full", 1500.0)
    with pytest.raises(openai.RateLimitError, match="full") as raised:
        complete(client, stream=True)
    assert raised.value.response.headers["retry-after"] == "2"
    assert raised.value.response.headers["retry-after-ms"] == "1500"
    EDGE.error = Disconnected("no route")
    with pytest.raises(openai.InternalServerError, match="no route") as unreachable:
        complete(client)
    assert unreachable.value.status_code == 503
    EDGE.error = Refused("no such token")
    with pytest.raises(openai.BadRequestError, match="no such token"):
        complete(client)
    for error, status, code in (
        (Failed("the pass failed"), 500, "target_failed"),
        (Misfit("not this pair"), 502, "target_refused"),
    ):
        EDGE.error = error
        with pytest.raises(openai.InternalServerError, match=str(error)) as failed:
            complete(client)
        assert (failed.value.status_code, failed.value.code) == (status, code)


def test_a_bug_is_logged_and_tells_nothing(client: openai.OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    EDGE.error = ZeroDivisionError("the inside")
    with caplog.at_level(logging.ERROR), pytest.raises(openai.InternalServerError) as raised:
        complete(client)
    assert raised.value.status_code == 500 and "inside" not in raised.value.message
    assert "the inside" in caplog.text


def test_an_error_within_a_stream_ends_it(client: openai.OpenAI, urls: list[str]) -> None:
    EDGE.error, EDGE.words_before_error = Disconnected("cut"), 1
    said = []
    with pytest.raises(openai.APIError, match="cut"):
        for chunk in complete(client, stream=True):
            said.append(chunk.choices[0].text)
    assert said == ["cat"]
    with pytest.raises(openai.InternalServerError):
        complete(client)  # whole answers are still free to say it in the status
    wait_until(lambda: EDGE.open == 0)


def test_more_than_it_serves_at_once_is_told_to_come_again(client: openai.OpenAI, urls: list[str]) -> None:
    EDGE.free.clear()
    threads = [threading.Thread(target=lambda: complete(client)) for _ in range(LIMITS.max_requests)]
    for thread in threads:
        thread.start()
    wait_until(lambda: EDGE.open == LIMITS.max_requests)
    with pytest.raises(openai.RateLimitError) as raised:
        complete(client)
    assert raised.value.response.headers["retry-after"] == "1"
    assert request(urls[0], "GET", "/health")[2] == {"status": "ok", "active": 3}
    EDGE.free.set()
    for thread in threads:
        thread.join()
    assert complete(client).choices
    wait_until(lambda: request(urls[0], "GET", "/health")[2]["active"] == 0)


def test_a_client_that_goes_away_is_noticed_before_the_first_word(client: openai.OpenAI, urls: list[str]) -> None:
    EDGE.free.clear()
    with begun(urls[0], {"prompt": ["the", "cat"], "stream": True}):
        wait_until(lambda: EDGE.open == 2)
    wait_until(lambda: EDGE.open == 0)
    assert request(urls[0], "GET", "/health")[2]["active"] == 0


def test_the_end_of_the_server_ends_what_it_serves(client: openai.OpenAI) -> None:
    EDGE.free.clear()
    with contextlib.ExitStack() as stack:
        with serving(APP) as (url,):
            gone = stack.enter_context(begun(url, {"prompt": "the", "stream": True}))
            wait_until(lambda: EDGE.open == 1)
        assert EDGE.open == 0
        gone.settimeout(1.0)
        assert b"[DONE]" not in gone.recv(1 << 16)


BODIES: list[tuple[Any, str, int, str | None]] = [
    (b"", "application/json", 400, "invalid_json"),
    (b"{", "application/json", 400, "invalid_json"),
    (b"[" * 5000, "application/json", 400, "invalid_json"),
    (b'["prompt"]', "application/json", 400, "invalid_json"),
    (b'{"prompt": "\xff"}', "application/json", 400, "invalid_json"),
    (b'{"prompt": "\\ud800"}', "application/json", 400, "invalid_json"),
    (b'{"\\ud800": 1}', "application/json", 400, "invalid_json"),
    (b'{"prompt": "a", "temperature": NaN}', "application/json", 400, "invalid_json"),
    (b'{"prompt": "a", "seed": 1%s}' % (b"0" * 5000), "application/json", 400, None),
    (b"prompt=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b'{"prompt": "a"}', "text/plain", 415, "unsupported_media_type"),
    (b" " * 10_001, "application/json; charset=utf-8", 413, "request_too_large"),
    ([b" " * 5000] * 50, "application/json", 413, "request_too_large"),  # in chunks, without a length
]


@pytest.mark.parametrize(("body", "kind", "status", "code"), BODIES)
def test_a_body_that_is_no_request(urls: list[str], body: Any, kind: str, status: int, code: str | None) -> None:
    given = iter(body) if isinstance(body, list) else body
    found, _, answer = request(urls[0], "POST", "/v1/completions", given, Content_Type=kind)
    assert found == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert code in (None, answer["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_a_route_that_is_not_there(urls: list[str], method: str, path: str, status: int) -> None:
    found, headers, answer = request(urls[0], method, path)
    assert found == status and path in answer["error"]["message"]
    assert status != 405 or headers["allow"]


def test_events_are_not_held_back(urls: list[str]) -> None:
    EDGE.reset()
    connection = http.client.HTTPConnection(urlsplit(urls[0]).netloc, timeout=20)
    times_ms = []
    for _ in range(60):
        start_s = time.perf_counter()
        connection.request("POST", "/v1/completions", '{"prompt": "a", "stream": true}', JSON)
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
        times_ms.append((time.perf_counter() - start_s) * 1000.0)
    connection.close()
    assert min(times_ms[40:]) < 30.0  # Nagle's algorithm and delayed acknowledgements, late in a connection, take 40


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot be listened on"):
        asyncio.run(serve_http(make_app(EDGE, TOKENIZER, "m", LIMITS), "127.0.0.1", taken.getsockname()[1]))
