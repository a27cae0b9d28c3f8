"""Whatever mechanisms are combined: nothing happens before it can, and time is spent where somebody spends it."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from scenarios import Case, cases
from watched import Run

from dsd_gym.latency import transmission_ms
from dsd_gym.network.trace_file import read_bandwidth
from dsd_gym.records import RequestRecord
from dsd_gym.reference import target_row
from dsd_gym.scenario import LinkSpec
from dsd_gym.workload import Population

EXAMPLES = 100
ROUNDING_MS = 1e-6


class Least:
    """The least times that one request's messages and passes can take."""

    def __init__(self, run: Run, request: RequestRecord) -> None:
        edge, spec = run.scenario.edges[request.device_class], run.spec_of(request)
        self.link: LinkSpec = edge.link or run.scenario.link
        self.device = run.simulation.devices[request.device]
        slowest_start = min((regime.rtt_factor for regime in self.link.regimes), default=1.0)
        spread = self.link.handover.rtt_spread if self.link.handover else 1.0
        rtt_ms = min(read_bandwidth(self.link.trace)._rtt_ms) if self.link.trace else self.link.rtt_ms
        self.rtt_ms = rtt_ms * slowest_start / spread + spec.region_rtt_ms
        row = target_row(spec)
        # Steps of the staircase lie a little under the pass of one token; prompts alone do without attention's launch.
        self.pass_ms = 0.9 * (row.one_token_iteration_ms - row.attention_fixed_ms) + spec.host_ms

    def up_ms(self, message_bytes: float) -> float:
        """Return the transmission ms of a message at the best bandwidth that the link can have."""
        return transmission_ms(message_bytes, 45.0 if self.link.trace else self.link.up_mbps)

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave, known outages in mind."""
        for outage in self.link.outages:
            if outage.start_ms <= at_ms < outage.start_ms + outage.duration_ms:
                at_ms = outage.start_ms + outage.duration_ms
        return at_ms


@settings(max_examples=EXAMPLES)
@given(cases())
def test_no_first_token_comes_before_it_can(case: Case) -> None:
    """After the prompt's way up, on which an outage may hold it, at least a pass, and the way down."""
    run, messages = Run(case), case.scenario.messages
    for request in run.records.requests:
        if request.first_token_ms is None:
            continue
        least = Least(run, request)
        prompt_ms = least.up_ms(messages.header_bytes + messages.prompt_token_bytes * request.prompt_tokens)
        least_ms = prompt_ms + least.rtt_ms + least.pass_ms
        assert request.first_token_ms >= least.clear_ms(request.arrival_ms) + least_ms - ROUNDING_MS


@settings(max_examples=EXAMPLES)
@given(cases())
def test_no_verdict_comes_before_its_window_could(case: Case) -> None:
    """After drafting, which drafting ahead may hide, the way up, a pass, and the way down; returns go there twice."""
    run, messages = Run(case), case.scenario.messages
    guessed = {(asked.stream, asked.now_ms): asked.observation.has_first_guess for asked in run.asked}
    for request in run.records.requests:
        least, unread = Least(run, request), 0
        for round in run.rounds_of(request.stream):
            unread = (0 if round.drafted and not round.cloud_tokens else unread) + round.cloud_tokens
            if not round.drafted:
                continue
            least_ms = least.up_ms(messages.draft_token_bytes * round.drafted) + least.rtt_ms + least.pass_ms
            if round.cloud_tokens:
                least_ms += least.rtt_ms + round.drafted * least.device.draft_ms
                least_ms += unread * least.device.prefill_ms
                unread = 0
            elif not case.scenario.draft_ahead:
                drafts = round.drafted - guessed[round.stream, round.decided_ms]
                least_ms += drafts * least.device.draft_ms
            assert round.end_ms >= round.decided_ms + least_ms - ROUNDING_MS


@settings(max_examples=EXAMPLES)
@given(cases())
def test_going_to_the_cloud_takes_a_round_trip_and_a_pass(case: Case) -> None:
    run = Run(case)
    for request in run.records.requests:
        least, in_cloud = Least(run, request), False
        for round in run.rounds_of(request.stream):
            if round.window == 0 and not in_cloud:
                assert round.end_ms >= least.clear_ms(round.decided_ms) + least.rtt_ms + least.pass_ms - ROUNDING_MS
            in_cloud = round.window == 0


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_device_drafts_and_reads_one_token_at_a_time(case: Case) -> None:
    """What was drafted in rounds that lie between two moments, for all streams, had the time to be drafted."""
    run = Run(case)
    on_device = {request.stream: request.device for request in run.records.requests}
    for device in run.simulation.devices:
        arrivals = sorted(r.arrival_ms for r in run.records.requests if r.device == device.index)
        rounds = [r for r in run.records.rounds if on_device[r.stream] == device.index]
        ahead = (case.scenario.max_window + 1) * len(arrivals) * case.scenario.draft_ahead
        for start_ms in {*arrivals[:1], *(round.start_ms for round in rounds)}:
            drafted = -ahead * (start_ms > arrivals[0])
            for round in sorted((r for r in rounds if r.start_ms >= start_ms), key=lambda r: r.end_ms):
                drafted += round.drafted
                assert drafted * device.draft_ms <= round.end_ms - start_ms + ROUNDING_MS


@settings(max_examples=EXAMPLES)
@given(cases())
def test_closed_users_think_and_then_ask_again(case: Case) -> None:
    """User u sends requests u, u + users, ...: one at a time, each a think time after the last one left."""
    workload = case.scenario.workload
    if workload.kind != "closed":
        return
    run, population = Run(case), Population(case.scenario, case.seed)
    assert workload.users
    arrived_ms = {stream: request.arrival.arrival_ms for stream, request in run.requests.items()}
    for stream, arrival_ms in arrived_ms.items():
        before = stream - workload.users
        left_ms = run.left_ms[before] if before >= 0 else 0.0
        assert arrival_ms == pytest.approx(left_ms + population.think_ms(stream))
    devices = defaultdict(set)
    for stream, request in run.requests.items():
        devices[stream % workload.users].add(request.device.index)
    assert all(len(own) == 1 for own in devices.values())


@settings(max_examples=EXAMPLES)
@given(cases())
def test_littles_law_holds(case: Case) -> None:
    """Live requests, integrated over time by the simulation, are the residences of all of them."""
    run = Run(case)
    end_ms = run.records.stopped_ms
    residence_ms = sum(
        run.left_ms.get(stream, end_ms) - request.arrival.arrival_ms for stream, request in run.requests.items()
    )
    assert run.simulation.take_waited_ms() == pytest.approx(residence_ms, rel=1e-9, abs=1e-6)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_a_stream_s_tokens_come_in_the_order_in_which_time_passes(case: Case) -> None:
    """Nobody's life goes on before arrival or after leaving, and time never runs backwards for whoever decides."""
    run = Run(case)
    assert all(before.now_ms <= after.now_ms for before, after in pairwise(run.asked))
    for asked in run.asked:
        request = run.requests[asked.stream]
        assert request.arrival.arrival_ms < asked.now_ms <= run.left_ms.get(asked.stream, run.records.stopped_ms)
