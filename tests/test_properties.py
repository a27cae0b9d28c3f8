"""Whatever mechanisms are combined: nothing is lost, nothing happens before its cause, and luck is nobody's doing."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import accumulate, islice, pairwise, takewhile
from operator import mul

import pytest
from hypothesis import given, settings
from scenarios import FOREVER_MS, MAX_REQUESTS, Case, cases
from test_streaming import assert_same
from watched import Run

from dsd_gym.distribution import Histogram
from dsd_gym.metrics import summarise
from dsd_gym.records import Records, Status
from dsd_gym.simulator import simulate
from dsd_gym.tally import Tally
from dsd_gym.workload import Population

EXAMPLES = 50


def simulated(case: Case) -> Records:
    return simulate(case.scenario, case.controller(), case.seed)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_every_request_is_accounted_for(case: Case) -> None:
    """Those of an open load are those that the population brings; each is finished, in flight or rejected, once."""
    records, scenario = simulated(case), case.scenario
    streams = [r.stream for r in records.requests]
    assert len(set(streams)) == len(streams) <= MAX_REQUESTS
    if scenario.workload.kind != "closed" and records.stopped_ms >= scenario.horizon_ms:
        due = takewhile(lambda a: a.arrival_ms < scenario.horizon_ms, Population(scenario, case.seed).arrivals())
        assert sorted(streams) == [arrival.stream for arrival in islice(due, MAX_REQUESTS)]
    for request in records.requests:
        finished = request.status is Status.FINISHED
        assert (request.finish_ms is not None) == finished
        assert (request.committed_tokens == request.output_tokens) == finished
        assert 0 <= request.committed_tokens <= request.output_tokens
        assert request.status is not Status.REJECTED or request.first_token_ms is None


@settings(max_examples=EXAMPLES)
@given(cases())
def test_committed_tokens_are_those_of_the_rounds_and_the_first(case: Case) -> None:
    records, committed = simulated(case), defaultdict[int, int](int)
    for round in records.rounds:
        assert 0 <= round.cloud_tokens <= round.committed and round.committed > 0
        committed[round.stream] += round.committed
    for request in records.requests:
        lost = request.committed_tokens - committed.pop(request.stream, 0) - (request.first_token_ms is not None)
        assert lost == 0 or (request.status is Status.IN_FLIGHT and lost > 0)  # a return that the end has cut short
    assert not committed


@settings(max_examples=EXAMPLES)
@given(cases())
def test_every_verdict_is_what_the_tape_says(case: Case) -> None:
    """Position by position, whatever was drafted, stopped early, decoded meanwhile or prefilled again."""
    run = Run(case)
    decisions = {(asked.stream, asked.now_ms): asked.decision for asked in run.asked}
    for request in run.records.requests:
        tape, position = run.requests[request.stream].tape, 1
        for round in run.rounds_of(request.stream):
            position += round.cloud_tokens
            missing = request.output_tokens - position
            agreed = sum(1 for _ in takewhile(bool, tape.accepted[position : position + round.drafted]))
            assert round.accepted == min(agreed, missing)
            won = min(round.accepted + 1, missing) if round.drafted else 0
            assert round.committed - round.cloud_tokens == won
            if round.drafted:
                asked = decisions[round.stream, round.decided_ms]
                sure = list(accumulate(tape.confidence[position : position + asked.window], mul))
                first = next((n for n, product in enumerate(sure, 1) if product < (asked.stop_threshold or 0.0)), None)
                assert round.drafted == (first or asked.window) and round.window == asked.window
            else:
                assert round.window == 0 or missing == 0
            position += won
        assert position <= request.output_tokens


@settings(max_examples=EXAMPLES)
@given(cases())
def test_rounds_tile_lives(case: Case) -> None:
    records = simulated(case)
    lives = defaultdict(list)
    for round in records.rounds:
        assert round.start_ms <= round.decided_ms <= round.end_ms <= records.stopped_ms
        lives[round.stream].append(round)
    for request in records.requests:
        own = lives[request.stream]
        assert all(before.end_ms == after.start_ms for before, after in pairwise(own))
        assert not own or own[0].start_ms == request.first_token_ms
        if request.status is Status.FINISHED:
            assert request.finish_ms == (own[-1].end_ms if own else request.first_token_ms)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_nothing_is_negative_or_no_number(case: Case) -> None:
    records = simulated(case)
    for round in records.rounds:
        assert all(math.isfinite(value) and value >= 0 for value in round)
        assert round.iteration_ms > 0 and round.batch_size > 0
    for request in records.requests:
        assert request.arrival_ms >= 0 and request.prompt_tokens > 0 and request.output_tokens > 0
    for target in records.targets:
        assert all(math.isfinite(value) and value >= 0 for value in target)
        assert target.busy_ms <= case.scenario.horizon_ms - case.scenario.warm_up_ms + 1e-6


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_cloud_chunk_is_full_unless_it_is_the_last(case: Case) -> None:
    records, scenario = simulated(case), case.scenario
    chunk, most = scenario.cloud.chunk_tokens, scenario.cloud.draft_window * (scenario.cloud.mode == "draft")
    chunks, ends = [r for r in records.rounds if r.window == 0], {r.stream: r.finish_ms for r in records.requests}
    for round in chunks:
        assert round.committed == round.cloud_tokens <= chunk + most and round.drafted == 0
        assert round.committed >= chunk or round.end_ms == ends[round.stream]


@settings(max_examples=EXAMPLES)
@given(cases())
def test_bytes_are_those_of_the_messages(case: Case) -> None:
    """A chunk more in the cloud takes no message; a return takes one for the stop and, if it drafts, one more."""
    records, messages = simulated(case), case.scenario.messages
    in_cloud: set[int] = set()
    for round in records.rounds:
        sent = (round.drafted > 0) + ((round.window == 0) != (round.stream in in_cloud))
        assert round.uplink_bytes == sent * messages.header_bytes + round.drafted * messages.draft_token_bytes
        headers = round.downlink_bytes - round.committed * messages.committed_token_bytes
        assert headers >= messages.header_bytes and headers % (messages.header_bytes or 1) == 0
        (in_cloud.discard if round.window else in_cloud.add)(round.stream)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_nobody_is_sent_where_they_do_not_reach(case: Case) -> None:
    scenario = case.scenario
    tiers = [tier for tier, spec in enumerate(scenario.targets) for _ in range(spec.count)]
    classes = [number for number, edge in enumerate(scenario.edges) for _ in range(edge.count)]
    for request in simulated(case).requests:
        assert request.device_class == classes[request.device]
        assert tiers[request.target] in scenario.reachable[request.device_class]


@settings(max_examples=EXAMPLES)
@given(cases(FOREVER_MS))
def test_every_run_ends_and_nobody_waits_for_ever(case: Case) -> None:
    """Nobody holds anything then: no window waits, no memory is taken."""
    run = Run(case)
    assert run.records.stopped_ms < FOREVER_MS
    assert {r.status for r in run.records.requests} <= {Status.FINISHED, Status.REJECTED}
    for watched in run.targets:
        load = watched.target.load()
        assert load[:5] == (0, 0, 0, 0, 0.0) and not watched.busy


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_run_keeps_its_time(case: Case) -> None:
    records, scenario = simulated(case), case.scenario
    assert records.stopped_ms <= scenario.horizon_ms + scenario.drain_ms
    in_flight = any(r.status is Status.IN_FLIGHT for r in records.requests)
    assert not in_flight or records.stopped_ms == scenario.horizon_ms + scenario.drain_ms
    assert all(r.arrival_ms < scenario.horizon_ms for r in records.requests)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_the_same_seed_gives_the_same_records_to_the_bit(case: Case) -> None:
    first = simulated(case)
    assert repr(simulated(case)) == repr(first)
    assert repr(Run(case).records) == repr(first)  # looking on changes nothing


@settings(max_examples=EXAMPLES)
@given(cases())
def test_luck_does_not_depend_on_decisions(case: Case) -> None:
    """Another controller meets the same arrivals, lengths, classes, tapes and links, also after the run."""
    ours, theirs = Run(case), Run(replace(case, spec="static:1"))
    closed = case.scenario.workload.kind == "closed"
    assert closed or ours.requests.keys() == theirs.requests.keys()
    for stream in ours.requests.keys() & theirs.requests.keys():
        one, other = ours.requests[stream], theirs.requests[stream]
        assert one.arrival._replace(arrival_ms=0.0) == other.arrival._replace(arrival_ms=0.0)
        assert closed or one.arrival == other.arrival
        tiers = [ours.targets[run.record_of(stream).target].spec.name for run in (ours, theirs)]
        assert one.tape == other.tape or tiers[0] != tiers[1]
    after_ms = 60_000.0 + max(run.records.stopped_ms for run in (ours, theirs))  # no queue is left
    for devices in zip(ours.simulation.devices, theirs.simulation.devices, strict=True):
        for now_ms in (after_ms, after_ms + 20_777.0, after_ms + 90_000.0):
            ways = {(device.link.uplink(now_ms, 300.0), device.link.downlink(now_ms, 9.0)) for device in devices}
            assert len(ways) == 1


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_streamed_run_has_the_figures_of_its_records(case: Case) -> None:
    tally = Tally(Histogram)
    simulate(case.scenario, case.controller(), case.seed, sink=tally)
    try:
        exact = summarise(simulated(case))
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            tally.metrics()
        return
    assert_same(tally.metrics(), exact)
