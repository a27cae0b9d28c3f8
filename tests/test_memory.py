"""KV memory: who holds it, who gives way, and that nobody is lost for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_bench import Bench

from agents import make_controller
from dsd_gym.records import Status
from dsd_gym.request import Request
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate


class Checked(Bench):
    """A bench that looks at the memory after every event."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.requests: list[Request] = []

    def start(self, prompt: int, output: int, start_ms: float, windows: tuple[int, ...], **terms: Any) -> Request:
        """Let an edge live through a request."""
        request = self.request(len(self.requests), prompt, output, terms.pop("accept", True), False, False, **terms)
        self.requests.append(request)
        self.live(request, start_ms, windows)
        return request

    def run(self, capacity: int, until_ms: float = 1e7) -> None:
        """Run until nothing happens any more."""
        while self.env.peek() < until_ms:
            self.env.step()
            held = [request.held_tokens for request in self.requests]
            assert min(held) >= 0 and sum(held) <= capacity
            assert self.target.load().kv_share == pytest.approx(sum(held) / capacity)

    def preemptions(self) -> int:
        return sum(preempted for *_, preempted in self.passes)


def committed(bench: Bench, stream: int) -> int:
    return sum(verdict.tokens for _, verdict in bench.sent[stream])


def two_that_outgrow_the_memory(memory: str) -> Checked:
    """Two cloud streams of 10 + 20 tokens, decoded together, where 40 fit."""
    bench = Checked(kv_tokens=40, memory=memory)
    for start_ms in (0.0, 1.0):
        bench.start(10, 20, start_ms, (0,))
    bench.run(40)
    return bench


def test_reserved_memory_lets_the_second_wait_for_the_first() -> None:
    bench = two_that_outgrow_the_memory("reserve")
    assert bench.preemptions() == 0
    assert bench.sent[1][0][1].report.queue_wait_ms > bench.sent[0][-1][0] - 10.0  # begins when the first has ended


def test_the_youngest_gives_way_and_is_prefilled_again() -> None:
    bench = two_that_outgrow_the_memory("preempt")
    assert bench.preemptions() == 1
    assert [committed(bench, stream) for stream in (0, 1)] == [20, 20]
    assert bench.sent[1][0][0] < bench.sent[0][-1][0]  # both had begun
    ((start_ms, _, tokens, _),) = [entry for entry in bench.passes if entry[2] > 12]
    before = sum(verdict.tokens for ms, verdict in bench.sent[1] if ms <= start_ms)
    assert before > 5 and tokens - (10 + before - 1) in (0, 1)  # the first may decode in the same pass
    assert bench.sent[0][-1][0] < bench.sent[1][-1][0]


def test_the_lowest_class_gives_way_first_however_early_it_came() -> None:
    bench = Checked(kv_tokens=60, memory="preempt")
    for start_ms, priority in enumerate((2, 0, 1)):
        bench.start(10, 20, float(start_ms), (0,), priority=priority)
    bench.run(60)
    ends = [bench.sent[stream][-1][0] for stream in range(3)]
    assert bench.preemptions() >= 1 and max(ends[1], ends[2]) < ends[0]


def holding(bench: Bench, *requests: Request) -> None:
    """Admit requests one after another and wait until all have their first token."""
    for request in requests:
        assert bench.target.admit(request)
    while not all(request.verified for request in requests):
        bench.env.step()
    bench.passes.clear()


def test_who_rides_already_is_safe_for_that_pass() -> None:
    bench = Bench(kv_tokens=100, memory="preempt")
    older, younger = bench.request(1, 40, 50, prefilled=False), bench.request(0, 40, 50, prefilled=False)
    holding(bench, older, younger)
    for request in (younger, older):  # both come at once, and the lower stream goes first
        bench.target.verify(request, 12)
    bench.env.run(bench.env.now + 500.0)
    assert [preempted for *_, preempted in bench.passes] == [0, 1]
    assert [bench.sent[stream][1][0] for stream in (0, 1)] == bench.ends()[:2]


def test_rejected_tokens_give_their_memory_back() -> None:
    bench = Bench(kv_tokens=100, memory="preempt")
    request = bench.request(0, 40, 50, accept=False, prefilled=False)
    holding(bench, request)
    bench.target.verify(request, 12)
    bench.env.run(bench.env.now + 1.0)
    assert request.held_tokens == 40 + 13
    bench.env.run(bench.env.now + 500.0)
    assert request.verified == 2 and request.held_tokens == 41


def test_who_has_lost_its_memory_is_held_up_once() -> None:
    bench = Bench(kv_tokens=100, memory="preempt")
    older, younger = (bench.request(stream, 40, 50, prefilled=False) for stream in (0, 1))
    holding(bench, older, younger)
    bench.target.decode(younger)
    bench.env.run(bench.env.now + 55.0)
    bench.target.verify(older, 12)
    while len(bench.sent[0]) < 2:
        bench.env.step()
    verdict = bench.sent[0][1][1]
    assert not younger.held_tokens and verdict.report.batch_size == 1
    # Two are held up by the pass, the older and the younger, which waits both for its memory and to decode.
    assert verdict.externality_ms == pytest.approx(13 / 8 + 0.25 + 41 / 1024)


def test_waits_add_up_where_a_prefill_was_broken_off() -> None:
    bench = Bench(kv_tokens=130, memory="preempt", max_batch_tokens=30)
    older, younger = bench.request(0, 20, 14, prefilled=False), bench.request(1, 100, 20, prefilled=False)
    holding(bench, older)
    bench.target.admit(younger)
    admitted_ms = bench.env.now
    bench.env.run(admitted_ms + 15.0)
    assert 0 < younger.prefilled < 100
    bench.target.verify(older, 12)
    bench.env.run(admitted_ms + 500.0)
    lost = next(at for at, (*_, preempted) in enumerate(bench.passes) if preempted)
    starts = [start_ms for start_ms, *_ in bench.passes]
    begun_ms, lost_ms, again_ms = starts[0], starts[lost], starts[lost + 1]
    waited_ms = begun_ms - admitted_ms + again_ms - lost_ms
    assert bench.sent[1][0][1].report.queue_wait_ms == pytest.approx(waited_ms) and waited_ms > 5.0


def test_nobody_gives_way_where_all_of_it_would_not_do() -> None:
    bench = Checked(kv_tokens=100, memory="preempt")
    bench.start(60, 10, 0.0, (9,))
    bench.start(30, 40, 0.0, (12,))  # may take nothing from the first, and keeps what it has
    bench.run(100)
    assert bench.preemptions() == 0 and [committed(bench, stream) for stream in (0, 1)] == [10, 40]


def test_a_stop_reaches_a_stream_that_has_lost_its_memory() -> None:
    bench = Bench(kv_tokens=100, memory="preempt")
    first, second = (bench.request(stream, 40, 50, prefilled=False) for stream in (0, 1))
    for request in (first, second):
        bench.at(0.0, bench.target.admit, request)
        bench.at(20.0, bench.target.decode, request)
    while second.held_tokens or not second.verified:
        bench.env.step()
    bench.target.stop(second)
    stopped_ms = bench.env.now
    bench.env.run(5000.0)
    final = [(ms, verdict) for ms, verdict in bench.sent[1][1:] if verdict.final]
    assert len(final) == 1 and final[0][0] > stopped_ms and second.verified < 50
    assert first.verified == 50


def test_what_never_fits_is_refused() -> None:
    bench = Bench(kv_tokens=100, memory="preempt")
    assert not bench.target.admit(bench.request(0, 60, 41, prefilled=False))
    assert bench.target.admit(bench.request(1, 60, 40, prefilled=False))


@settings(max_examples=120)
@given(
    spare=st.integers(0, 80),
    order=st.sampled_from(["fifo", "priority", "length_aware", "edf"]),
    memory=st.sampled_from(["preempt", "preempt", "reserve"]),
    budget=st.integers(14, 100),
    sequences=st.integers(1, 6),
    chunked=st.booleans(),
    draft_window=st.integers(0, 3),
    lives=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 200), st.integers(0, 2), st.integers(0, 4)),
        min_size=1,
        max_size=12,
    ),
)
def test_every_request_ends_with_its_tokens_and_all_memory_comes_back(
    spare: int,
    order: str,
    memory: str,
    budget: int,
    sequences: int,
    chunked: bool,
    draft_window: int,
    lives: list[tuple[int, int, int, int, int]],
) -> None:
    capacity = max(prompt + output for prompt, output, *_ in lives) + spare
    bench = Checked(
        draft_window=draft_window,
        kv_tokens=capacity,
        order=order,
        memory=memory,
        max_batch_tokens=budget,
        max_sequences=sequences,
        chunked_prefill=chunked,
    )
    for prompt, output, start_ms, priority, script in lives:
        windows = ((4,), (0,), (1, 0, 12), (12, 2), (0, 3))[script]
        bench.start(prompt, output, float(start_ms), windows, priority=priority, accept=script % 2 == 0)
    bench.run(capacity)
    assert [committed(bench, stream) for stream in range(len(lives))] == [output for _, output, *_ in lives]
    assert bench.target.live == 0 and bench.target.load().kv_share == 0.0
    assert memory == "preempt" or bench.preemptions() == 0


@pytest.mark.parametrize("spec", ["static:4", "static:0", "heuristic"])
@pytest.mark.parametrize("mode", ["plain", "draft"])
def test_a_deployment_short_of_memory_loses_nothing(spec: str, mode: str) -> None:
    scenario = Scenario(
        edges=(EdgeClass("l40s/Qwen2.5-0.5B", 24),),
        link=LinkSpec(rtt_ms=15, jitter_ms=3),
        targets=(TargetClass(kv_tokens=2000, memory="preempt"),),
        workload=Workload(rate_per_s=12.0),
        lengths=Lengths(200, 150, 60, 50, max_prompt=900, max_output=200),
        acceptance=Acceptance("constant", 0.6),
        cloud=Cloud(mode),  # type: ignore[arg-type]
        warm_up_ms=0,
        horizon_ms=5000,
        drain_ms=1e6,
    )
    records = simulate(scenario, make_controller(spec, scenario.max_window))
    assert {request.status for request in records.requests} == {Status.FINISHED}
    assert all(request.committed_tokens == request.output_tokens for request in records.requests)
    assert records.targets[0].preemptions > 0
    assert min(min(round.queue_wait_ms, round.externality_ms) for round in records.rounds) >= 0.0
