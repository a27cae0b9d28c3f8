"""The engine's memory and manners: who is let in, what is refused, and that nobody suffers from another's end."""

import gc
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dsd_gym.config import ConfigError
from runtime.commands import _kv_budget
from runtime.kv_cache import Sequence as Cache
from runtime.messages import Busy, Disconnected, Opening, Refused, Sampling
from runtime.sampling import encode
from runtime.target.engine import Engine, PassFailed
from runtime.target.limits import Limits
from tests.target_sessions import (
    VOCABULARY,
    Client,
    HeldModel,
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
EACH = len(PROMPT) + len(WANTED)
CLOUD = -1000


def caches() -> int:
    """Return how many KV caches there are in this process."""
    gc.collect()
    return sum(type(thing) is Cache for thing in gc.get_objects())


# --- limits -----------------------------------------------------------------------------------------------------------


def test_requests_over_the_budget_wait_and_those_over_the_queue_are_busy() -> None:
    before = caches()
    with serving(kv_budget_tokens=2 * EACH + 5, max_queue=3) as engine:
        clients = [Client(engine, PROMPT, WANTED, mixed(i)) for i in range(5)]
        assert (engine.sessions, engine.waiting, engine.kv_tokens_used) == (5, 3, 2 * EACH)
        hints = []
        for _ in range(2):
            with pytest.raises(Busy, match="3 requests wait") as full:
                Client(engine, PROMPT, WANTED, static(4))
            hints.append(full.value.retry_ms)
        assert 0 < hints[0] < hints[1]
        run(clients)
        assert [client.output for client in clients] == [WANTED] * 5
        assert (engine.sessions, engine.waiting, engine.kv_tokens_used) == (0, 0, 0)
        assert caches() == before  # although the sessions are still at hand
        assert clients[4].verdicts[0].report.queue_wait_ms > clients[0].verdicts[0].report.queue_wait_ms


def test_the_hint_to_come_again_is_how_often_memory_gets_free() -> None:
    with serving(kv_budget_tokens=EACH, max_queue=1) as engine:
        for _ in range(12):
            held = [Client(engine, PROMPT, WANTED, static(4)) for _ in range(2)]
            time.sleep(0.05)
            for client in held:
                engine.close(client.session)
        for _ in range(2):
            Client(engine, PROMPT, WANTED, static(4))
        with pytest.raises(Busy) as full:
            Client(engine, PROMPT, WANTED, static(4))
        assert 40 < full.value.retry_ms < 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 92}, "9 prompt tokens and max_new_tokens 92 need 101 tokens; the KV budget is 100"),
        ({"max_new_tokens": 300}, "max_new_tokens: 300; the target takes 1 to 256"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0"),
        ({"prompt": []}, "prompt tokens: 0; the target takes 1 to 80"),
        ({"prompt": [1] * 81}, "prompt tokens: 81; the target takes 1 to 80"),
        ({"prompt": [1, VOCABULARY]}, "token 64 is outside the vocabulary of 64"),
        ({"committed": [1, -1]}, "token -1 is outside"),
        ({"committed": [1] * 10}, "committed tokens: 10; the target takes 0 to 9"),
        ({"sampling": Sampling(temperature=-1.0)}, "temperature -1.0"),
    ],
)
def test_what_can_never_be_served_is_refused_with_the_numbers(changes: dict[str, Any], message: str) -> None:
    opening = Opening(PROMPT, (), 10, Sampling())
    with serving(kv_budget_tokens=100, max_prompt_tokens=80, max_new_tokens=256) as engine:
        assert engine.describe().max_context_tokens == 100  # what one request can ever have
        with pytest.raises(Refused, match=message):
            engine.open(opening._replace(**changes), print)
        assert engine.sessions == engine.kv_tokens_used == 0


def test_a_command_out_of_turn_is_refused_and_disturbs_nobody() -> None:
    model = tiny_model(HeldModel)
    with serving(model, max_window=6) as engine:

        def refused(message: str, position: int, *tokens: int) -> None:
            with pytest.raises(Refused, match=message):
                engine.verify(one.session, position, tokens, b"")

        model.hold()
        one, other = clients = [Client(engine, PROMPT, WANTED, static(3)) for _ in range(2)]
        refused("waits for its first token", 0, 1)
        model.go.set()
        one.receive()
        refused("position 0: 1 output tokens", 0, 1)
        refused("position 2: 1 output tokens", 2, 1)
        refused("token 64 is outside", 1, VOCABULARY)
        refused("token -1 is outside", 1, -1)
        refused("a window of 7 tokens; the target takes up to 6", 1, *WANTED[1:8])
        model.hold()
        one.act(3)
        refused("waits for a verdict on a window", 1, 1)
        with pytest.raises(Refused, match="waits for a verdict"):
            engine.decode(one.session, 1)
        model.go.set()
        one.receive()
        one.act(CLOUD)
        refused("waits for a stop", len(one.output), 1)
        engine.stop_decoding(one.session)
        run(clients)
        assert one.output == other.output == WANTED
        refused("waits for nothing", len(WANTED), 1)


def test_drafts_that_do_not_fit_their_distributions_end_their_own_session_alone() -> None:
    sampling = Sampling(temperature=1.0)
    with serving() as engine:
        other = Client(engine, PROMPT, WANTED, static(4))
        client = Client(engine, PROMPT, WANTED, static(4), sampling=sampling)
        client.receive()
        with pytest.raises(Refused, match="cut short"):
            engine.verify(client.session, 1, [1, 2], b"")
        _, probs = client.draft(1)
        impossible = next(token for token in range(VOCABULARY) if token not in probs[0].tokens)
        client.window = [impossible]
        engine.verify(client.session, 1, client.window, encode(probs))
        with pytest.raises(Refused, match="is not in its own distribution"):
            client.receive()
        run([other])
        assert other.output == WANTED
        assert engine.sessions == engine.kv_tokens_used == 0


def test_limits_that_let_nothing_through_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="max_queue: 0; at least 1"):
        Limits(max_queue=0)
    with pytest.raises(ConfigError, match="max_batch_tokens: 16; a window of max_window takes 17"):
        Limits(max_batch_tokens=16)
    engine = Engine(tiny_model(), "fingerprint", Limits(max_context_tokens=4096))
    assert engine.describe().max_context_tokens == 512  # the model's


def test_memory_is_kept_for_what_fits_beside_the_weights() -> None:
    def budget(free_bytes: int | None) -> int:
        model: Any = SimpleNamespace(max_context_tokens=1000, cache_bytes_per_token=500, free_bytes=lambda: free_bytes)
        return _kv_budget(model)

    assert (budget(None), budget(10**9), budget(5_000_000), budget(0)) == (16_000, 16_000, 8_000, 1)


# --- closing, failing, stopping ---------------------------------------------------------------------------------------


def test_closing_in_the_middle_of_a_pass_disturbs_nobody_and_frees_memory_after_it() -> None:
    before = caches()
    model = tiny_model(HeldModel)
    with serving(model, kv_budget_tokens=3 * EACH) as engine:
        clients = [Client(engine, PROMPT, WANTED, static(4)) for _ in range(4)]
        for client in clients[:3]:
            client.receive()
        model.hold()
        clients[0].act(4)
        model.held()
        clients[1].act(4)
        clients[2].act(4)
        for _ in range(2):
            engine.close(clients[0].session)
        assert (engine.sessions, engine.waiting, engine.kv_tokens_used) == (3, 1, 3 * EACH)
        engine.close(clients[1].session)  # waits for the next pass: gone at once, and the fourth has its memory
        assert (engine.sessions, engine.waiting, engine.kv_tokens_used) == (2, 0, 3 * EACH)
        model.go.set()
        run(clients[2:])
        assert clients[2].output == clients[3].output == WANTED
        assert clients[0].inbox.empty() and clients[1].inbox.empty()
        assert engine.kv_tokens_used == 0
        assert caches() == before


def test_closing_a_request_that_waits_lets_the_next_one_in() -> None:
    with serving(kv_budget_tokens=EACH) as engine:
        clients = [Client(engine, PROMPT, WANTED, static(4)) for _ in range(3)]
        engine.close(clients[1].session)
        assert engine.waiting == 1
        engine.close(clients[0].session)
        run(clients[2:])
        assert clients[2].output == WANTED
        assert engine.kv_tokens_used == 0


def test_a_pass_that_raises_ends_its_own_sessions_alone() -> None:
    before = caches()
    model = tiny_model(HeldModel)
    with serving(model) as engine:
        clients = [Client(engine, PROMPT, WANTED, mixed(i)) for i in range(3)]
        for client in clients:
            client.receive()
        model.hold()
        clients[0].act(4)
        model.held()
        clients[1].act(4)  # waits for the pass after the one that fails
        model.fail = True
        model.go.set()
        with pytest.raises(PassFailed, match="the pass failed at the target"):
            clients[0].receive()
        run(clients[1:2])
        clients[2].act(2)
        run(clients[2:])
        assert [client.output for client in clients[1:]] == [WANTED] * 2
        assert (engine.failed_passes, engine.sessions, engine.kv_tokens_used) == (1, 0, 0)
        assert caches() == before


def test_a_listener_that_has_gone_loses_its_session_alone() -> None:
    with serving() as engine:
        engine.open(Opening(PROMPT, (), 10, Sampling()), lambda message: 1 // 0)  # type: ignore[arg-type,return-value]
        client = Client(engine, PROMPT, WANTED, static(4))
        run([client])
        assert client.output == WANTED
        assert engine.sessions == engine.kv_tokens_used == 0


def test_stopping_disconnects_who_is_left() -> None:
    with serving() as engine:
        client = Client(engine, PROMPT, WANTED, static(4))
        client.receive()
        engine.stop()
        with pytest.raises(Disconnected, match="stopped"):
            client.receive()
        with pytest.raises(Disconnected, match="not serving"):
            Client(engine, PROMPT, WANTED, static(4))
        assert engine.sessions == engine.kv_tokens_used == 0
        engine.start()
        run([again := Client(engine, PROMPT, WANTED, static(4))])
        assert again.output == WANTED


def test_a_target_that_cannot_run_its_largest_pass_does_not_start() -> None:
    model = tiny_model(HeldModel)
    model.fail = True
    with pytest.raises(ConfigError, match="out of memory; lower max_batch_tokens"), serving(model):
        pass
