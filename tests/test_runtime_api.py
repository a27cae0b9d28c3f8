"""The OpenAI client against an edge with a draft and a target that really run."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from runtime.edge.http.api import make_app
from runtime.edge.http.prompts import ApiLimits, plain_template
from tests.api_world import CONTEXT, ENDING, PROMPT, World, running_world
from tests.serving import begun, serving, wait_until


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_world() as world:
        yield world


def test_lists_its_model(world: World) -> None:
    (model,) = world.client.models.list()
    assert model.id == "org/tiny" and model.object == "model"
    assert world.client.models.retrieve("org/tiny") == model


def test_temperature_0_is_the_greedy_text_of_the_target(world: World) -> None:
    answer = world.complete()
    (choice,) = answer.choices
    assert choice.text == world.text(world.greedy(PROMPT, 60))
    assert choice.finish_reason == "length"
    assert answer.object == "text_completion" and answer.model == "org/tiny"
    prompt_tokens = len(world.tokenizer.encode(PROMPT))
    assert answer.usage.prompt_tokens == prompt_tokens and answer.usage.completion_tokens == 60
    assert answer.usage.total_tokens == prompt_tokens + 60


def test_the_end_token_ends_the_text_unless_it_is_ignored(world: World) -> None:
    expected = world.greedy(ENDING, 60, ignore_eos=False)
    assert expected[-1] == 0 and len(expected) < 60
    answer = world.complete(ENDING, ignore_eos=False)
    assert answer.choices[0].text == world.tokenizer.decode(expected[:-1])
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens == len(expected)
    longer = world.complete(ENDING)
    assert longer.choices[0].text == world.text(world.greedy(ENDING, 60))
    assert longer.choices[0].finish_reason == "length" and longer.usage.completion_tokens == 60


def test_a_stream_says_what_a_whole_answer_says(world: World) -> None:
    prompts = [PROMPT, ENDING]
    whole = world.complete(prompts, ignore_eos=False)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(world.complete(prompts, ignore_eos=False, **options))
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    last = chunks.pop()
    assert last.usage == whole.usage and last.choices == []
    assert all(chunk.usage is None for chunk in chunks)
    for said in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == said.index]
        assert "".join(part.text for part in parts) == said.text
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [said.finish_reason]
    assert len(chunks) > 10  # not all at once


def test_a_chat_streams_as_openai_does(world: World) -> None:
    messages: Any = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "the"}, {"type": "text", "text": "cat"}]},
    ]
    ask: dict[str, Any] = {"model": "org/tiny", "messages": messages, "max_completion_tokens": 30, "temperature": 0}
    ask["extra_body"] = {"ignore_eos": True}
    whole = world.client.chat.completions.create(**ask)
    template = plain_template([{"role": "system", "content": "be brief"}, {"role": "user", "content": "the\ncat"}])
    said = world.text(world.greedy(template, 30))
    assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
    assert whole.choices[0].message.content == said
    first, *rest, last = list(world.client.chat.completions.create(**ask, stream=True))
    assert first.object == "chat.completion.chunk"
    assert first.choices[0].delta.role == "assistant" and first.choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == said
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason and last.choices[0].delta.content is None


def test_a_chat_goes_on_to_the_end_of_the_context_and_may_continue(world: World) -> None:
    ask: dict[str, Any] = {"model": "org/tiny", "temperature": 0.7, "extra_body": {"ignore_eos": True, "top_k": 40}}
    answer = world.client.chat.completions.create(messages=[{"role": "user", "content": "the " * 200}], **ask)
    assert answer.usage and answer.usage.total_tokens == CONTEXT
    again: Any = [{"role": "user", "content": "the"}, answer.choices[0].message.model_dump()]
    again[1]["content"] = "cat"
    assert world.client.chat.completions.create(messages=again, max_tokens=2, **ask).choices


def test_a_chat_template_is_used(world: World) -> None:
    templated = copy.deepcopy(world.tokenizer)
    templated.chat_template = (
        "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('only users') }}{% endif %}"
        "<end>{{ m.content }}{% endfor %}{% if add_generation_prompt %} cat{% endif %}"
    )
    app = make_app(world.edge, templated, "t", ApiLimits(CONTEXT))
    with serving(app) as (url,), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        ask: dict[str, Any] = {"model": "t", "max_tokens": 8, "temperature": 0}
        answer = client.chat.completions.create(messages=[{"role": "user", "content": "the"}], **ask)
        said = world.text(world.greedy("<end>the cat", 8, ignore_eos=False))
        assert answer.choices[0].message.content == said
        with pytest.raises(openai.BadRequestError, match="only users"):
            client.chat.completions.create(messages=[{"role": "system", "content": "the"}], **ask)


def test_stops_before_a_stop_string(world: World) -> None:
    whole = world.complete().choices[0].text
    stop = next(whole[i : i + 3] for i in range(20, len(whole)) if "\ufffd" not in whole[i : i + 3])
    answer = world.complete(stop=["never said", stop])
    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop" and 0 < answer.usage.completion_tokens < 60
    streamed = list(world.complete(stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole[: whole.index(stop)]
    wait_until(world.idle)


def test_a_seed_gives_the_same_text_and_none_another(world: World) -> None:
    def say(**more: Any) -> str:
        return world.complete(most=30, temperature=1.0, **more).choices[0].text

    assert say(seed=5) == say(seed=5)
    assert say(seed=-5, top_p=0.9) == say(seed=-5, top_p=0.9)
    assert len({say(seed=1), say(seed=2), say(), say()}) == 4


def test_prompts_may_be_tokens(world: World) -> None:
    ids = world.tokenizer.encode(PROMPT)
    said = {choice.text for prompt in (PROMPT, ids, [ids, ids]) for choice in world.complete(prompt, 10).choices}
    assert len(said) == 1


def test_eight_at_once_say_what_each_says_alone(world: World) -> None:
    def say(seed: int) -> str:
        return world.complete(most=24, temperature=0.8 * (seed % 2), seed=seed).choices[0].text

    alone = [say(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(say, range(8))) == alone
    wait_until(world.idle)


def test_the_asynchronous_client(world: World) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none") as client:
            stream = await client.completions.create(model="org/tiny", prompt=PROMPT, max_tokens=20, stream=True)
            reasons = [chunk.choices[0].finish_reason async for chunk in stream]
            assert reasons[-1] in ("length", "stop")

    asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_the_target(world: World, stream: bool) -> None:
    world.pass_ms = 30.0
    try:
        ask = {"prompt": PROMPT, "max_tokens": 490, "ignore_eos": True, "stream": stream}
        with begun(world.url, ask) as client:
            wait_until(lambda: world.engine.sessions == 1)
            if stream:
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)
            assert world.engine.sessions == 1
        wait_until(world.idle, 1.0)  # all of it would take 490 tokens / 3 a pass * 30 ms
    finally:
        world.pass_ms = 0.0
