"""What the OpenAI API answers to a request that it cannot serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.edge.http.api import make_app
from runtime.edge.http.errors import ApiError
from runtime.edge.http.prompts import ApiLimits, new_tokens
from runtime.edge.http.requests import IGNORED, NEUTRAL, ChatRequest, CompletionRequest, GenerationRequest, parse
from tests.serving import ScriptedEdge, serving, small_tokenizer

LIMITS = ApiLimits(max_context_tokens=64, max_new_tokens=40, max_requests=3)


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """Serve an edge that says `catcat` to everything."""
    tokenizer = small_tokenizer()
    with serving(make_app(ScriptedEdge(tokenizer), tokenizer, "m", LIMITS)) as (url,):
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def complete(client: openai.OpenAI, **more: Any) -> Any:
    return client.completions.create(**{"model": "m", "prompt": "the cat", **more})


UNSERVED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"best_of": 3}, "best_of"),
    ({"logprobs": 0}, "logprobs"),
    ({"echo": True}, "echo"),
    ({"suffix": "end"}, "suffix"),
    ({"logit_bias": {"5": 10}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"repetition_penalty": 1.2}, "repetition_penalty"),
    ({"skip_special_tokens": False}, "skip_special_tokens"),
    ({"temprature": 0}, "temprature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"seed": 1 << 63}, "seed"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 41}, "max_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ["a", ""]}, "stop[1]"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 5]}, "prompt"),
    ({"prompt": [1, 2, 10**6]}, "prompt"),
    ({"prompt": [1, -2]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": ["a"] * 4}, "prompt"),
]


@pytest.mark.parametrize(("wrong", "param"), UNSERVED)
def test_names_the_parameter_that_it_does_not_serve(client: openai.OpenAI, wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/completions", body={"model": "m", "prompt": "the", **wrong}, cast_to=object)
    assert raised.value.param == param and raised.value.type == "invalid_request_error"
    assert param.split("[")[0] in raised.value.message


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("hello", "messages"),
        ([{"role": "cat", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": 5}], "messages[1].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0].type"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}], "messages[0].tool_calls"),
    ],
)
def test_names_the_part_of_a_message(client: openai.OpenAI, messages: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="m", messages=messages)
    assert raised.value.param == param


def test_takes_what_asks_for_nothing_more(client: openai.OpenAI) -> None:
    neutral: dict[str, Any] = {"n": 1, "logit_bias": {}, "presence_penalty": 0, "best_of": None, "stop": None}
    answer = complete(client, **neutral, user="me", extra_body={"metadata": {"a": "b"}})
    assert answer.choices[0].text == "catcat" and answer.usage.completion_tokens > 1
    of_vllm = {"repetition_penalty": 1.0, "skip_special_tokens": True, "min_p": 0, "stop_token_ids": []}
    assert complete(client, extra_body=of_vllm).choices[0].text == "catcat"
    chat: Any = {"model": "m", "messages": [{"role": "user", "content": "x", "name": "me"}], "tools": []}
    assert client.chat.completions.create(**chat, logprobs=False).choices[0].message.content == "catcat"


@pytest.mark.parametrize(("asked", "served"), [(0, 0.0), (1e-8, 0.0), (9e-4, 0.0), (1e-3, 1e-3), (0.7, 0.7)])
def test_a_temperature_too_low_to_draw_at_is_greedy(asked: float, served: float) -> None:
    body = json.dumps({"prompt": "the", "temperature": asked}).encode()
    assert parse(body, CompletionRequest).sampling().temperature == served


def test_says_when_the_context_is_too_short(client: openai.OpenAI) -> None:
    for prompt, most in (("cat " * 70, 1), ([5] * 60, 5)):
        with pytest.raises(openai.BadRequestError, match="64 tokens") as raised:
            complete(client, prompt=prompt, max_tokens=most)
        assert raised.value.code == "context_length_exceeded"
    assert complete(client, prompt=[5] * 60, max_tokens=4).choices


def test_a_chat_that_names_no_length_gets_a_part_of_a_long_context_and_one_that_does_what_it_asks() -> None:
    long = ApiLimits(max_context_tokens=100_000, max_new_tokens=100_000)
    prompt = [1] * 10
    assert new_tokens(prompt, None, long, "max_tokens") == 2048
    assert new_tokens(prompt, 50_000, long, "max_tokens") == 50_000
    assert new_tokens(prompt, None, ApiLimits(max_context_tokens=30), "max_tokens") == 20


def test_knows_only_its_model(client: openai.OpenAI) -> None:
    for ask in (lambda: complete(client, model="gpt-4"), lambda: client.models.retrieve("gpt-4")):
        with pytest.raises(openai.NotFoundError) as raised:
            ask()
        assert raised.value.code == "model_not_found"
    assert client.post("/completions", body={"prompt": "x"}, cast_to=object)  # the only one it can be


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from(sorted({*IGNORED, *NEUTRAL, *CompletionRequest.model_fields, *ChatRequest.model_fields}))
messages = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": json_values}), max_size=2)


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@given(st.dictionaries(names, json_values, max_size=4), st.just("the") | json_values, messages | json_values)
def test_any_json_is_read_or_refused_by_name(
    kind: type[GenerationRequest], body: dict[str, Any], prompt: Any, said: Any
) -> None:
    whole = body | ({"prompt": prompt} if kind is CompletionRequest else {"messages": said})
    try:
        request = parse(json.dumps(whole).encode(), kind)
    except ApiError as error:
        assert error.status == 400
        assert error.body["error"]["param"].split("[")[0].split(".")[0] in {*whole, "prompt", "messages"}
    else:
        assert request.sampling().seed >= 0
