"""Who goes first at a target, and what padding makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from target_bench import Bench

from dsd_gym.scenario import Slo
from dsd_gym.target.orders import LengthAware

WINDOW_MS = 2 + 3 / 8 + 4 + 0.5 + 0.25 + 1025 / 1024  # a pass of one window of 2


def first_served(bench: Bench) -> list[int]:
    """Return streams in the order of their first message; those of one pass in the order of the batch."""
    return sorted(bench.sent, key=lambda stream: bench.sent[stream][0][0])


def test_priority_serves_windows_by_class_and_first_come_within_a_class() -> None:
    bench = Bench(max_sequences=1, order="priority")
    for stream, ms, priority in ((9, 0.0, 5), (0, 1.0, 1), (1, 2.0, 0), (2, 3.0, 1), (3, 4.0, 0)):
        bench.at(ms, bench.target.verify, bench.request(stream, priority=priority), 2)
    bench.env.run(200.0)
    assert first_served(bench) == [9, 1, 3, 0, 2]  # the pass that is under way is not broken off


@pytest.mark.parametrize("order", ["priority", "edf"])
def test_prompts_are_taken_in_order_even_from_one_that_is_half_read(order: str) -> None:
    bench = Bench(max_batch_tokens=100, order=order)
    early = bench.request(0, prompt=300, prefilled=False, priority=1, slo=Slo(ttft_ms=9000.0))
    late = bench.request(1, prompt=300, prefilled=False, priority=0, slo=Slo(ttft_ms=900.0))
    bench.at(0.0, bench.target.admit, early)
    bench.at(1.0, bench.target.admit, late)
    bench.env.run(1000.0)
    assert [bench.sent[stream][0][0] for stream in (1, 0)] == [bench.ends()[3], bench.ends()[5]]


@pytest.mark.parametrize("order", ["fifo", "priority", "length_aware", "edf"])
def test_requests_that_wait_for_memory_are_taken_in_order(order: str) -> None:
    bench = Bench(kv_tokens=1000, order=order)
    for stream, (prompt, priority, ttft_ms) in enumerate([(900, 9, 1), (500, 2, 900), (800, 1, 700), (490, 0, 800)]):
        terms = {"priority": priority, "slo": Slo(ttft_ms=float(ttft_ms))}
        bench.at(stream, bench.target.admit, bench.request(stream, prompt, 1, prefilled=False, **terms))
    bench.env.run(5000.0)
    expected = {"fifo": [0, 1, 2, 3], "priority": [0, 3, 2, 1], "length_aware": [0, 1, 3, 2], "edf": [0, 2, 3, 1]}
    # The oldest of the waiting is 1, to whose 500 tokens the 490 of 3 are nearer than the 800 of 2.
    assert first_served(bench) == expected[order]


def test_priority_decoding_takes_turns_within_a_class_alone() -> None:
    bench = Bench(max_sequences=2, order="priority")
    for stream in range(6):
        bench.at(0.0, bench.target.decode, bench.request(stream, priority=stream // 3))
    bench.env.run(500.0)
    counts = [len(bench.sent.get(stream, [])) for stream in range(6)]
    assert counts[3:] == [0, 0, 0] and min(counts[:3]) > 10 and max(counts) - min(counts[:3]) <= 1


def test_edf_decoding_shares_passes_by_how_often_tokens_are_due() -> None:
    bench = Bench(max_sequences=1, order="edf")
    for stream, tpot_ms in enumerate((10.0, 30.0)):
        bench.at(0.0, bench.target.decode, bench.request(stream, slo=Slo(tpot_ms=tpot_ms)))
    bench.env.run(2000.0)
    counts = [len(bench.sent[stream]) for stream in (0, 1)]
    assert counts[0] == pytest.approx(3 * counts[1], abs=3) and counts[1] > 30


def test_edf_meets_deadlines_that_fifo_misses() -> None:
    met = {}
    for order in ("fifo", "edf"):
        bench = Bench(max_sequences=1, order=order)
        due_ms = {stream: (20 - stream) * (WINDOW_MS + 0.01) for stream in range(20)}
        for stream, ttft_ms in due_ms.items():  # one token is verified, so the next is due tpot_ms after ttft_ms
            slo = Slo(ttft_ms=ttft_ms - 1e-3, tpot_ms=1e-3)
            bench.at(0.0, bench.target.verify, bench.request(stream, slo=slo), 2)
        bench.env.run(1000.0)
        met[order] = sum(bench.sent[stream][0][0] <= due_ms[stream] for stream in due_ms)
    assert met == {"fifo": 10, "edf": 20}


@given(st.lists(st.integers(1, 12), max_size=30))
def test_length_aware_puts_the_oldest_first_then_the_nearest(lengths: list[int]) -> None:
    class Item:
        def __init__(self, tokens: int) -> None:
            self.tokens = tokens

    items = [Item(tokens) for tokens in lengths]
    arranged = LengthAware().arrange(items)
    assert sorted(map(id, arranged)) == sorted(map(id, items)) and arranged[:1] == items[:1]
    apart = [(abs(item.tokens - lengths[0]), items.index(item)) for item in arranged]
    assert apart[1:] == sorted(apart[1:])


def test_a_padded_pass_costs_as_if_all_windows_were_as_long_as_the_longest() -> None:
    bench = Bench(padded=True, max_sequences=4)
    bench.at(0.0, bench.target.verify, bench.request(9), 1)
    for stream, window in ((0, 7), (1, 3), (2, 1)):
        bench.at(1.0, bench.target.verify, bench.request(stream), window)
    bench.at(1.0, bench.target.decode, bench.request(3, output=2))
    bench.env.run(100.0)
    tokens = 3 * 8 + 1
    assert bench.tokens() == [2, tokens]
    assert bench.ends()[1] - bench.ends()[0] == 2 + tokens / 8 + tokens / 4 + 0.5 + 4 * (0.25 + 1025 / 1024)
    verdicts = [bench.sent[stream][0][1] for stream in (0, 1, 2)]
    assert [verdict.tokens for verdict in verdicts] == [8, 4, 2]
    # Without the window of 7 the pass is 2 x 4 + 1 tokens, without another 2 x 8 + 1: 9 tokens cost 4 ms, as few do.
    own_ms = 0.25 + 1025 / 1024
    prices = [verdict.externality_ms / 3 - own_ms for verdict in verdicts]
    assert prices == pytest.approx([16 / 8 + 25 / 4 - 4, 8 / 8 + 8 / 4, 8 / 8 + 8 / 4])


def test_the_token_budget_holds_with_padding() -> None:
    bench = Bench(padded=True, max_batch_tokens=40)
    for stream in range(40):
        bench.at(0.0, bench.target.verify, bench.request(stream), 1 + stream * 7 % 12)
    bench.env.run(5000.0)
    assert (
        len(bench.sent) == 40
        and max(bench.tokens()) <= 40
        and sum(bench.tokens()) > sum(2 + stream * 7 % 12 for stream in range(40))
    )


def test_length_aware_saves_padding() -> None:
    ends = {}
    for order in ("fifo", "length_aware"):
        bench = Bench(padded=True, max_sequences=4, order=order)
        for stream in range(24):
            bench.at(0.0, bench.target.verify, bench.request(stream), (12, 2)[stream % 2])
        bench.env.run(5000.0)
        ends[order] = (bench.ends()[-1], sum(bench.tokens()))
    assert ends["length_aware"][1] == 12 * 13 + 12 * 3 and ends["fifo"][1] == 24 * 13
    assert ends["length_aware"][0] < ends["fifo"][0]
