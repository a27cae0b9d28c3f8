"""The engine: what comes out is the model's own text, whoever else is served, leaves, or fails beside it."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from runtime.messages import Sampling
from runtime.model import LanguageModel
from runtime.pair import TINY_PAIR
from runtime.target.engine import Iteration
from tests.target_sessions import (
    Client,
    HeldModel,
    agree,
    generated,
    mixed,
    run,
    serving,
    some_prompt,
    static,
    tiny_model,
)

PROMPT = some_prompt(9)
WANTED = generated(PROMPT, 40)
CLOUD = -1000


# --- the model's own text ---------------------------------------------------------------------------------------------


def test_greedy_sessions_in_mixed_passes_equal_generate() -> None:
    texts = [some_prompt(1 + 7 * i, seed=i) for i in range(12)]
    wanted = [generated(text, 30 + i) for i, text in enumerate(texts)]
    passes: list[Iteration] = []
    with serving(max_batch_tokens=40, chunk_tokens=3) as engine:
        engine.observer = passes.append
        clients = [
            Client(engine, text, goal, mixed(i)) for i, (text, goal) in enumerate(zip(texts, wanted, strict=True))
        ]
        run(clients)
        assert engine.kv_tokens_used == engine.sessions == 0
    for client in clients:
        assert agree(client.prompt, client.output, client.wanted)
        assert client.verdicts[-1].finish == "length"
    assert max(a.tokens for a in passes) <= 40
    assert all(a.tokens == sum(1 + k for k, _ in a.windows) + a.decoded + a.prefilled for a in passes)
    assert any(0 < accepted < drafted for a in passes for drafted, accepted in a.windows)


def test_windows_cloud_decoding_and_prefill_share_a_pass() -> None:
    model = tiny_model(HeldModel)
    passes: list[Iteration] = []
    with serving(model) as engine:
        clients = [Client(engine, PROMPT, WANTED, static(plan)) for plan in (0, 3, 4, CLOUD)]
        for client in clients:
            client.receive()
        engine.observer = passes.append
        model.hold()
        clients[0].act(0)
        model.held()
        for client in clients[1:]:
            client.act(client.plan(client))
        clients.append(Client(engine, PROMPT, WANTED, static(2)))
        model.go.set()
        run(clients)
    shared = passes[1]
    assert [drafted for drafted, _ in shared.windows] == [3, 4]
    assert (shared.batch_size, shared.decoded, shared.prefilled) == (4, 1, len(PROMPT))
    assert all(client.output == WANTED for client in clients)


def test_the_shipped_target_equals_generate() -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(TINY_PAIR / "target", dtype="float32")
    texts = [some_prompt(5 + 20 * i, seed=i, vocabulary=1024) for i in range(4)]
    wanted = [generated(text, 40, plain) for text in texts]
    with serving(LanguageModel.load(TINY_PAIR / "target", "float32")) as engine:
        clients = [
            Client(engine, text, goal, mixed(i)) for i, (text, goal) in enumerate(zip(texts, wanted, strict=True))
        ]
        run(clients)
    assert all(agree(client.prompt, client.output, client.wanted, plain) for client in clients)


def test_a_prompt_longer_than_a_pass_is_prefilled_in_chunks() -> None:
    prompt = some_prompt(200)
    passes: list[Iteration] = []
    with serving(max_batch_tokens=24) as engine:
        engine.observer = passes.append
        client = Client(engine, prompt, generated(prompt, 12), static(4))
        run([client])
    assert agree(prompt, client.output, client.wanted)
    assert [a.prefilled for a in passes[:9]] == [24] * 8 + [8]


def test_a_prefill_does_not_hold_up_windows() -> None:
    model = tiny_model(HeldModel)
    passes: list[Iteration] = []
    with serving(model, max_batch_tokens=20) as engine:
        engine.observer = passes.append
        client = Client(engine, PROMPT, WANTED, static(4))
        client.receive()
        model.hold()
        Client(engine, some_prompt(400), WANTED, static(4))
        model.held()
        client.act(4)
        model.go.set()
        run([client])
    assert client.output == WANTED
    assert [(len(one.windows), one.prefilled) for one in passes[1:3]] == [(0, 20), (1, 15)]


def test_windows_ride_in_order_of_arrival_as_far_as_they_fit() -> None:
    model = tiny_model(HeldModel)
    passes: list[Iteration] = []
    with serving(model, max_window=4, max_batch_tokens=12) as engine:
        clients = [Client(engine, PROMPT, WANTED, static(4)) for _ in range(5)]
        for client in clients:
            client.receive()
        engine.observer = passes.append
        model.hold()
        clients[0].act(2)
        model.held()
        for client, window in zip(clients[1:], (4, 4, 2, 4), strict=True):
            client.act(window)
        model.go.set()
        for client in clients:
            client.receive()
    assert [[drafted for drafted, _ in one.windows] for one in passes[:3]] == [[2], [4, 4], [2, 4]]


def test_streams_take_turns_where_a_pass_has_no_room_for_all() -> None:
    model = tiny_model(HeldModel)
    with serving(model, max_window=4, max_batch_tokens=5, chunk_tokens=1) as engine:
        clients = [Client(engine, PROMPT, WANTED, static(CLOUD)) for _ in range(12)]
        for client in clients:
            client.receive()
        model.hold()
        for client in clients:
            client.act(CLOUD)
        model.go.set()
        while not clients[0].receive().finish:
            pass
        assert min(client.session.committed for client in clients) >= len(WANTED) - 2
        run(clients[1:])
    assert [client.output for client in clients] == [WANTED] * 12


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_p=0.9, seed=7)])
def test_a_request_that_is_opened_again_goes_on_as_if_nothing_had_happened(sampling: Sampling) -> None:
    with serving(chunk_tokens=1) as engine:
        whole = Client(engine, PROMPT, WANTED, static(CLOUD), sampling=sampling)
        run([whole])
        for kept in (1, 13, len(WANTED) - 1):
            again = Client(engine, PROMPT, WANTED, static(CLOUD), sampling=sampling, committed=whole.output[:kept])
            run([again])
            assert again.output == whole.output
            assert again.verdicts[0].position == kept


def test_a_seed_fixes_the_sampled_text_whoever_else_is_served() -> None:
    def texts(seeds: Sequence[int], together: bool) -> list[list[int]]:
        clients = []
        for seed in seeds:
            sampling = Sampling(temperature=1.0, seed=seed)
            clients.append(Client(engine, PROMPT, WANTED, static(seed), sampling=sampling))
            if not together:
                run(clients[-1:])
        if together:
            run(clients)
        return [client.output for client in clients]

    with serving(chunk_tokens=2) as engine:
        alone, crowd = texts(range(6), together=False), texts(range(6), together=True)
    assert alone == crowd
    assert len({tuple(text) for text in alone}) == 6


# --- where a request ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 3, 6, CLOUD])
@pytest.mark.parametrize("ends_at", [0, 3, 17])
def test_output_ends_with_the_first_end_token(window: int, ends_at: int) -> None:
    end = WANTED[ends_at]
    stop = WANTED.index(end) + 1
    with serving(chunk_tokens=5) as engine:
        engine._model.eos_tokens = frozenset([end])
        client = Client(engine, PROMPT, WANTED, static(window), ignore_eos=False)
        regardless = Client(engine, PROMPT, WANTED, static(window))
        run([client, regardless])
    assert client.output == WANTED[:stop]
    assert client.verdicts[-1].finish == "stop"
    assert regardless.output == WANTED


def test_an_accepted_end_token_is_the_last_one_that_counts() -> None:
    with serving() as engine:
        engine._model.eos_tokens = frozenset([WANTED[2]])
        client = Client(engine, PROMPT, WANTED, static(6), ignore_eos=False)
        assert WANTED.index(WANTED[2]) == 2
        run([client])
    last = client.verdicts[-1]
    assert (last.position, last.accepted, last.tokens, last.finish) == (1, 2, (), "stop")


def test_a_window_beyond_the_last_token_is_cut() -> None:
    with serving() as engine:
        passes: list[Iteration] = []
        engine.observer = passes.append
        client = Client(engine, PROMPT, WANTED[:4], static(6))
        client.receive()
        client.window = WANTED[1:7]
        engine.verify(client.session, 1, client.window, b"")
        last = client.receive()
        assert (last.accepted, last.tokens, last.finish) == (3, (), "length")
        assert engine.kv_tokens_used == 0
    assert client.output == WANTED[:4]
    assert passes[-1].tokens == 1 + 3  # no more than there is memory for


def test_a_stop_ends_cloud_decoding_with_a_final_chunk() -> None:
    with serving(chunk_tokens=4) as engine:
        client = Client(engine, PROMPT, WANTED, static(-2))
        client.step()
        engine.stop_decoding(client.session)  # comes at once: one pass, then the end
        while not (chunk := client.receive()).final:
            assert len(chunk.tokens) == 4
        assert 1 <= len(chunk.tokens) <= 4
        assert not chunk.finish
        engine.stop_decoding(client.session)  # nothing decodes: left alone
        client.act(3)
        run([client])
    assert client.output == WANTED


def test_an_idle_engine_sleeps() -> None:
    with serving() as engine:
        Client(engine, PROMPT, WANTED, static(4)).receive()
        spent_s = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - spent_s < 0.05
