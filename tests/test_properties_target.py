"""Whatever mechanisms are combined: a target works while it can, within its limits, in its order; its books agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from scenarios import Case, cases
from target_bench import Bench
from watched import Pass, Run, Watched

from dsd_gym.request import Request

EXAMPLES = 100


class WorkConservation:
    """Sees to it that no target stands still while something that fits waits, except for its batch wait."""

    def __init__(self) -> None:
        self._since_ms: dict[int, float] = {}

    def __call__(self, run: Run) -> None:
        env = run.simulation.env
        for index, watched in enumerate(run.targets):
            if watched.busy or not something_fits(watched):
                self._since_ms.pop(index, None)
                continue
            since_ms = self._since_ms.setdefault(index, env.now)
            patience_ms = 0.0 if is_full(watched) else watched.spec.batch_wait_ms
            assert env.peek() <= since_ms + patience_ms + 1e-9 or env.peek() == env.now, "idle while something waits"


def something_fits(watched: Watched) -> bool:
    """Return whether a window, a stream or a prompt waits that memory is there for, without anybody giving way."""
    queues, memory = watched.target._queues, watched.target._memory

    def fits(request: Request, tokens: int) -> bool:
        need = min(request.cached_tokens + tokens, request.kv_tokens) - request.held_tokens
        return memory.fixed or (request.prefilled >= request.prefill_tokens and need <= memory.free)

    if queues.prefilling or any(fits(window.request, window.tokens) for window in queues.windows):
        return True
    if any(fits(request, watched.target._filler._tokens_per_decode) for request in queues.decoding.values()):
        return True
    first = queues.waiting[0].request if queues.waiting else None
    return first is not None and (first.kv_tokens if memory.fixed else first.prefill_tokens) <= memory.free


def is_full(watched: Watched) -> bool:
    """Return whether windows that could ride would fill a pass by their number."""
    return watched.target._memory.fixed and len(watched.target._queues.windows) >= watched.spec.max_sequences


def passes(run: Run) -> Iterator[tuple[Watched, Pass]]:
    for watched in run.targets:
        for entry in watched.passes:
            yield watched, entry


@settings(max_examples=EXAMPLES)
@given(cases())
def test_no_target_idles_while_something_fits(case: Case) -> None:
    Run(case, WorkConservation())


@settings(max_examples=EXAMPLES)
@given(cases())
def test_memory_is_never_overdrawn_and_holds_what_is_cached(case: Case) -> None:
    def look(run: Run) -> None:
        held = dict.fromkeys(run.simulation.targets, 0)
        for request in run.requests.values():
            held[request.target] += request.held_tokens
            ended = request.verified >= request.arrival.output_tokens
            reading = 0 < request.prefilled < request.prefill_tokens
            cached = request.cached_tokens if request.verified and request.prefilled >= request.prefill_tokens else 0
            assert request.held_tokens >= (0 if ended else request.prefilled if reading else cached)
            assert request.held_tokens <= (0 if ended else request.kv_tokens)
            watched = run.targets[run.simulation.targets.index(request.target)]
            if cached and not ended and not watched.busy and not request.target._memory.fixed:
                assert request.held_tokens == cached  # beyond it, only what a pass has in flight
        for target, tokens in held.items():
            assert tokens + target._memory.free == target._memory.capacity and target._memory.free >= 0

    run = Run(case, look)
    if not run.simulation.live:
        assert all(watched.target._memory.free == watched.target._memory.capacity for watched in run.targets)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_passes_of_a_target_follow_each_other(case: Case) -> None:
    for watched in Run(case).targets:
        assert all(entry.start_ms < entry.end_ms for entry in watched.passes)
        assert all(before.end_ms <= after.start_ms for before, after in pairwise(watched.passes))


@settings(max_examples=EXAMPLES)
@given(cases())
def test_no_pass_exceeds_its_limits(case: Case) -> None:
    run = Run(case)
    per_stream = 1 + case.scenario.cloud.draft_window * (case.scenario.cloud.mode == "draft")
    for watched, entry in passes(run):
        spec, batch = watched.spec, entry.batch
        windows, chunks = [window.tokens for window in batch.windows], [chunk for _, chunk in batch.prefills]
        tokens = len(windows) * max(windows) if spec.padded and windows else sum(windows)
        tokens += sum(chunks) + per_stream * len(batch.decoding)
        assert len(batch) <= spec.max_sequences and all(chunk > 0 for chunk in chunks)
        assert entry.tokens in (tokens, 0)  # 0: the run ended before the pass did
        alone = not spec.chunked_prefill and len(chunks) == 1  # a whole prompt may be longer than any pass
        assert tokens <= spec.max_batch_tokens or alone
        assert sum(chunks) <= (spec.prefill_chunk_tokens or tokens)
        assert spec.chunked_prefill or not (chunks and (windows or batch.decoding))


def test_memory_that_a_pass_sets_free_lets_no_prompt_into_it_where_prompts_have_their_own() -> None:
    """A window of 12 takes memory from a small prompt and a large one; the small one fits again, and is read next."""
    bench = Bench(kv_tokens=100, memory="preempt", chunked_prefill=False)
    lives = [(30, 50, 0), (10, 5, 2), (50, 5, 1)]
    first, *others = (
        bench.request(stream, prompt, output, prefilled=False, priority=priority)
        for stream, (prompt, output, priority) in enumerate(lives)
    )
    for request in (first, *others):
        bench.at(0.0, bench.target.admit, request)
    bench.at(200.0, bench.target.verify, first, 9)
    bench.at(400.0, bench.target.verify, first, 12)
    bench.env.run(1000.0)
    assert bench.tokens() == [90, 10, 13, 10]


@settings(max_examples=EXAMPLES)
@given(cases())
def test_who_rides_is_ready_and_rides_once(case: Case) -> None:
    """A request is in one place: nothing of it is verified, decoded or read twice in a pass, nor at another target."""
    run, read = Run(case), defaultdict[int, int](int)
    for watched, entry in passes(run):
        batch = entry.batch
        riders = [*(window.request for window in batch.windows), *batch.decoding, *(r for r, _ in batch.prefills)]
        assert len({id(request) for request in riders}) == len(riders)
        assert all(request.target is watched.target for request in riders)
        for window in batch.windows:
            assert entry.start_ms >= window.arrived_ms and 1 <= window.drafted <= case.scenario.max_window
        for request, chunk in batch.prefills:
            read[request.arrival.stream] += chunk
    preempted = sum(watched.target._memory.preemptions for watched in run.targets)
    for record in run.records.requests:
        if record.first_token_ms is not None:
            assert read[record.stream] >= record.prompt_tokens
            assert preempted or read[record.stream] == record.prompt_tokens


@settings(max_examples=EXAMPLES)
@given(cases())
def test_windows_ride_in_their_order(case: Case) -> None:
    """Memory aside, nobody overtakes: by rank and arrival; where lengths count, the oldest is never left behind."""
    for watched, entry in passes(Run(case)):
        if not watched.target._memory.fixed or not entry.batch.windows:
            continue
        taken, left = ([window[:3] for window in group] for group in (entry.batch.windows, entry.left))
        if watched.spec.order == "length_aware":
            assert min(taken) <= min(left, default=min(taken))
        else:
            assert taken == sorted(taken) and max(taken) <= min(left, default=max(taken))
        if watched.spec.order == "fifo":
            assert max(window.arrived_ms for window in entry.batch.windows) <= entry.start_ms


@settings(max_examples=EXAMPLES)
@given(cases())
def test_prompts_of_equal_rank_are_begun_as_they_were_admitted(case: Case) -> None:
    for watched in Run(case).targets:
        if watched.spec.order not in ("fifo", "priority") or not watched.target._memory.fixed:
            continue
        begun: dict[int, list[int]] = defaultdict(list)
        for request in [request for entry in watched.passes for request, _ in entry.batch.prefills]:
            numbers = begun[request.priority if watched.spec.order == "priority" else 0]
            if request.admitted not in numbers:
                numbers.append(request.admitted)
        assert all(numbers == sorted(numbers) for numbers in begun.values())


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_target_s_record_is_the_sum_of_its_passes(case: Case) -> None:
    run = Run(case)
    start_ms, end_ms = run.records.start_ms, run.records.end_ms
    for watched, record in zip(run.targets, run.records.targets, strict=True):
        inside = [p for p in watched.passes if p.tokens and p.start_ms < end_ms and p.end_ms > start_ms]
        busy_ms = sum(min(p.end_ms, end_ms) - max(p.start_ms, start_ms) for p in inside)
        assert record[1:3] == (len(inside), sum(p.tokens for p in inside))
        assert record.busy_ms == pytest.approx(busy_ms)
        assert 0 <= record.preemptions <= watched.target._memory.preemptions


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_target_counts_who_is_there(case: Case) -> None:
    """Its `live` are the requests routed there that it has neither refused nor given their last token."""

    def look(run: Run) -> None:
        for watched in run.targets:
            own = [r for r in run.requests.values() if r.target is watched.target]
            refused = [r for r in own if r.arrival.stream in run.left_ms and not r.verified]
            done = sum(r.verified >= r.arrival.output_tokens for r in own)
            assert watched.target.live == len(own) - len(refused) - done

    Run(case, look)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_windows_wait_as_long_as_there_are_windows_that_wait(case: Case) -> None:
    """Little's law at each target: waiting windows, integrated over time, are their waits; edges are told the same."""
    areas_ms, last_ms, counts = defaultdict[int, float](float), 0.0, defaultdict[int, int](int)

    def look(run: Run) -> None:
        nonlocal last_ms
        now_ms = run.simulation.env.now
        for index, watched in enumerate(run.targets):
            areas_ms[index] += counts[index] * (now_ms - last_ms)
            counts[index] = len(watched.target._queues.windows)
        last_ms = now_ms

    run, waits_ms = Run(case, look), defaultdict[int, list[float]](list)
    for index, watched in enumerate(run.targets):
        total_ms = sum(run.records.stopped_ms - window.arrived_ms for window in watched.target._queues.windows)
        for entry in watched.passes:
            for window in entry.batch.windows:
                waits_ms[window.stream].append(entry.start_ms - window.arrived_ms)
                total_ms += waits_ms[window.stream][-1]
        assert areas_ms[index] == pytest.approx(total_ms, abs=1e-6)
    for stream, own_ms in waits_ms.items():
        told_ms = [round.queue_wait_ms for round in run.rounds_of(stream) if round.drafted]
        assert told_ms == own_ms[: len(told_ms)]
