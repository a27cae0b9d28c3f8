"""When a pass begins, and how prompts ride in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_bench import ROW, Bench

from dsd_gym.config import ConfigError, build
from dsd_gym.scenario import TargetClass


def test_an_idle_target_waits_for_more_once() -> None:
    bench = Bench(batch_wait_ms=10.0)
    for stream, ms in ((0, 3.0), (1, 5.0), (2, 13.0), (3, 14.0)):
        bench.at(ms, bench.target.verify, bench.request(stream), 2)
    bench.env.run(100.0)
    starts = [start_ms for start_ms, *_ in bench.passes]
    assert starts == [13.0, bench.ends()[0]]  # the fourth comes during the pass, and is served as soon as it ends
    assert [bench.sent[stream][0][1].report.queue_wait_ms for stream in (0, 1, 2)] == [10.0, 8.0, 0.0]


@pytest.mark.parametrize("limit", [{"max_sequences": 3}, {"max_batch_tokens": 9}])
def test_a_full_pass_starts_at_once(limit: dict[str, int]) -> None:
    bench = Bench(batch_wait_ms=10.0, **limit)
    for stream in range(3):
        bench.at(2.0 * stream, bench.target.verify, bench.request(stream), 2)
    for stream in range(3, 7):
        bench.at(40.0, bench.target.verify, bench.request(stream), 2)
    bench.env.run(100.0)
    starts = [start_ms for start_ms, *_ in bench.passes]
    assert starts == [4.0, 40.0, bench.ends()[1]]


def test_batch_wait_delays_a_sparse_window_by_its_closed_form() -> None:
    """The first of a batch waits w, Poisson arrivals meanwhile half of it: w (1 + rate w/2) / (1 + rate w)."""
    row = replace(ROW, fixed_ms=0.0, token_ms=0.0, weights_ms=1e-9, compute_ms=1e-12, attention_fixed_ms=0.0)
    row = replace(row, attention_sequence_ms=0.0, attention_context_ms=0.0)
    wait_ms, rate = 20.0, 0.08
    bench = Bench(row=row, batch_wait_ms=wait_ms)
    request = bench.request(0, output=20_000, accept=False)
    for ms in np.cumsum(np.random.default_rng(1).exponential(1 / rate, 10_000)):
        bench.at(float(ms), bench.target.verify, request, 1)
    bench.env.run()
    waits = [verdict.report.queue_wait_ms for _, verdict in bench.sent[0]]
    # 3 800 independent batches: standard error of the mean below 1 %.
    assert len(waits) == 10_000
    assert np.mean(waits) == pytest.approx(wait_ms * (1 + rate * wait_ms / 2) / (1 + rate * wait_ms), rel=0.03)


def test_a_cap_on_prompt_tokens_leaves_passes_short() -> None:
    bench = Bench(max_batch_tokens=100, prefill_chunk_tokens=30)
    bench.at(0.0, bench.target.decode, bench.request(0))
    for stream in (1, 2):
        bench.at(0.0, bench.target.admit, bench.request(stream, prompt=50, output=5, prefilled=False))
    bench.env.run(200.0)
    assert bench.tokens()[:5] == [31, 31, 31, 11, 1]
    assert [bench.sent[stream][0][0] for stream in (1, 2)] == [bench.ends()[1], bench.ends()[3]]


def test_without_chunks_whole_prompts_have_passes_of_their_own() -> None:
    bench = Bench(max_batch_tokens=100, chunked_prefill=False)
    bench.at(0.0, bench.target.decode, bench.request(0))
    for stream, prompt in ((1, 60), (2, 40), (3, 30), (4, 500)):
        bench.at(1.0, bench.target.admit, bench.request(stream, prompt=prompt, output=5, prefilled=False))
    bench.env.run(500.0)
    assert bench.tokens()[:5] == [1, 100, 30, 500, 1]  # the last is longer than a pass, and rides alone
    assert bench.sent[0][1][0] == bench.ends()[4]  # decoding has stood still meanwhile


def test_whole_prompts_keep_max_sequences() -> None:
    bench = Bench(chunked_prefill=False, max_sequences=2)
    for stream in range(5):
        bench.at(0.0, bench.target.admit, bench.request(stream, prompt=10, output=5, prefilled=False))
    bench.env.run(500.0)
    assert bench.tokens() == [20, 20, 10]


def test_a_cap_without_chunks_is_refused() -> None:
    with pytest.raises(ConfigError, match="prefill_chunk_tokens is for chunked_prefill"):
        build(TargetClass, {"chunked_prefill": False, "prefill_chunk_tokens": 8}, source="x.yaml")


@settings(max_examples=40)
@given(
    budget=st.integers(14, 80),
    sequences=st.integers(1, 6),
    chunk=st.none() | st.integers(1, 40),
    order=st.sampled_from(["fifo", "priority", "length_aware", "edf"]),
    padded=st.booleans(),
    draft_window=st.integers(0, 3),
    batch_wait_ms=st.sampled_from([0.0, 7.0]),
    lives=st.lists(st.tuples(st.integers(1, 150), st.integers(1, 30), st.integers(0, 60)), min_size=1, max_size=10),
)
def test_no_pass_exceeds_its_limits_and_all_end(
    budget: int,
    sequences: int,
    chunk: int | None,
    order: str,
    padded: bool,
    draft_window: int,
    batch_wait_ms: float,
    lives: list[tuple[int, int, int]],
) -> None:
    bench = Bench(
        draft_window=draft_window,
        max_batch_tokens=budget,
        max_sequences=sequences,
        prefill_chunk_tokens=chunk,
        order=order,
        padded=padded,
        batch_wait_ms=batch_wait_ms,
    )
    for stream, (prompt, output, start_ms) in enumerate(lives):
        request = bench.request(stream, prompt, output, stream % 3 > 0, False, False, priority=stream % 2)
        bench.live(request, float(start_ms), ((4, 0, 12), (0,), (2, 5))[stream % 3])
    bench.env.run(1e6)
    for stream, (_, output, _) in enumerate(lives):
        assert sum(verdict.tokens for _, verdict in bench.sent[stream]) == output
    assert max(bench.tokens()) <= budget and bench.target.live == 0
    assert max(verdict.report.batch_size for sent in bench.sent.values() for _, verdict in sent) <= sequences
    load = bench.target.load()
    assert (load.waiting_requests, load.waiting_windows, load.waiting_prompt_tokens, load.kv_share) == (0, 0, 0, 0.0)
