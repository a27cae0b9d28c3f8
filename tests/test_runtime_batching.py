"""Many sessions in one pass: what it brings, what each is told of the load, and what others pay for it."""

import copy
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from runtime.model import LanguageModel
from runtime.target.cost_curve import CostCurve
from runtime.target.engine import Engine, Iteration
from tests.target_sessions import Client, generated, run, serving, some_prompt, static

SESSIONS = 8
TOKENS = 32
CLOUD = -1000


@pytest.fixture(scope="module")
def plain() -> Any:
    """Return a model as large as the shipped target: one whose passes take longer than what is around them."""
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=1024, initializer_range=0.06, **shape)).eval()


@pytest.fixture(scope="module")
def engine(plain: Any) -> Iterator[Engine]:
    with serving(LanguageModel(copy.deepcopy(plain), "as large as the shipped one")) as engine:
        yield engine


@pytest.mark.parametrize(("plan", "tokens"), [(4, 3 * TOKENS), (CLOUD, TOKENS)], ids=["windows", "cloud decoding"])
def test_eight_at_once_are_twice_as_fast_as_one_after_another(
    plain: Any, engine: Engine, plan: int, tokens: int
) -> None:
    prompts = [some_prompt(20 + 5 * i, seed=i, vocabulary=1024) for i in range(SESSIONS)]
    requests = [(prompt, generated(prompt, tokens, plain)) for prompt in prompts]

    def took_s(at_once: int) -> float:
        start = time.perf_counter()
        for first in range(0, SESSIONS, at_once):
            run([Client(engine, *request, static(plan)) for request in requests[first : first + at_once]])
        return time.perf_counter() - start

    took_s(SESSIONS)
    alone_s, together_s = zip(*((took_s(1), took_s(SESSIONS)) for _ in range(7)), strict=True)
    assert min(alone_s) >= 2.0 * min(together_s), (alone_s, together_s)  # the least: a busy machine only adds


def test_the_eight_ride_together(plain: Any, engine: Engine) -> None:
    passes: list[Iteration] = []
    prompt = some_prompt(20, vocabulary=1024)
    wanted = generated(prompt, TOKENS, plain)
    engine.observer = passes.append
    clients = [Client(engine, prompt, wanted, static(CLOUD)) for _ in range(SESSIONS)]
    run(clients)
    engine.observer = None
    assert statistics.median(one.batch_size for one in passes) == SESSIONS
    assert len(passes) < 1.5 * TOKENS


def test_a_report_is_of_the_pass_that_its_message_came_from(plain: Any, engine: Engine) -> None:
    passes: list[Iteration] = []
    prompt = some_prompt(20, vocabulary=1024)
    engine.observer = passes.append
    client = Client(engine, prompt, generated(prompt, 20, plain), static(4))
    run([client])
    engine.observer = None
    for verdict, one in zip(client.verdicts, passes, strict=True):
        assert (verdict.report.batch_size, verdict.report.iteration_tokens) == (1, one.tokens)
        assert verdict.report.iteration_ms == one.iteration_ms
        assert verdict.report.queue_wait_ms == one.queue_waits_ms[0]
        assert verdict.target_ms >= verdict.report.queue_wait_ms + verdict.report.iteration_ms
        assert verdict.report.one_token_iteration_ms > 0.0
        assert verdict.externality_ms == 0.0  # there was nobody else


def test_others_in_the_pass_and_waiting_for_memory_pay(plain: Any) -> None:
    prompt = some_prompt(20, vocabulary=1024)
    wanted = generated(prompt, 12, plain)
    with serving(LanguageModel(copy.deepcopy(plain), "small budget"), kv_budget_tokens=32) as engine:
        clients = [Client(engine, prompt, wanted, static(3)) for _ in range(3)]
        run(clients)
        priced = [[verdict.externality_ms for verdict in client.verdicts] for client in clients]
        curve = engine._curve
    assert priced[0][1] == pytest.approx(2 * curve.added(4, 4))  # alone in its pass; two wait
    assert priced[1][1] == pytest.approx(curve.added(4, 4))
    assert set(priced[2]) == {0.0}
    assert all(first == 0.0 for first, *_ in priced)  # the prompt is no decision's cost


# --- the cost of a pass -----------------------------------------------------------------------------------------------


def test_a_timed_curve_tells_what_passes_take(engine: Engine) -> None:
    curve = engine._curve
    assert 0.0 < curve.one_token_ms < curve.at(64) < curve.at(512)
    assert curve.at(512) < 512 * curve.one_token_ms  # else there were nothing to gain from batches
    assert curve.added(512, 16) == pytest.approx(16 * curve.marginal(496))


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=8))
def test_a_curve_never_falls_and_keeps_the_mean(ms: list[float]) -> None:
    tokens = list(range(1, len(ms) + 1))
    curve = CostCurve(tokens, ms)
    assert all(curve.marginal(n) >= -1e-9 for n in tokens)
    assert sum(curve.at(n) for n in tokens) == pytest.approx(sum(ms))
    assert curve.added(len(ms), len(ms)) == curve.at(len(ms)) - curve.one_token_ms


def test_a_curve_is_straight_between_its_points() -> None:
    curve = CostCurve([1, 2, 4, 8], [10.0, 12.0, 11.0, 19.0])
    assert [curve.at(n) for n in range(1, 9)] == [10.0, 11.5, 11.5, 11.5, 13.375, 15.25, 17.125, 19.0]
    assert curve.marginal(8) == curve.marginal(7) == curve.marginal(4) == 1.875


def test_the_slope_is_taken_over_a_window_so_that_single_steps_do_not_show() -> None:
    noisy = CostCurve([1, 2, 4, 8, 32], [10.0, 11.0, 11.0, 11.0, 11.0])
    assert noisy.marginal(1) == 1.0 / 16
