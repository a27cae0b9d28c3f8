"""A target: who rides in an iteration, how long it takes, what it holds, whom it refuses. Times are worked by hand."""

from __future__ import annotations

import simpy

from dsd_gym.acceptance import Tape
from dsd_gym.hardware import TargetHardware
from dsd_gym.messages import Inbox, call_later
from dsd_gym.network import Link
from dsd_gym.observation import StreamView
from dsd_gym.request import Device, Request
from dsd_gym.scenario import LinkSpec, Messages, TargetClass
from dsd_gym.target import TargetServer, Verdict
from dsd_gym.target.batch import CloudDraft
from dsd_gym.workload import Arrival

FREE = Messages(prompt_token_bytes=0, header_bytes=0, committed_token_bytes=0)
# Powers of two, so that times are exact. A pass: 2 + n/8 + max(4, n/4) + 1/2 + B/4 + C/1024.
_COSTS = (2.0, 0.125, 4.0, 0.25, 0.5, 0.25, 2.0**-10, 1.0, 2.0**-6, 2.0**-16)
ROW = TargetHardware("bench", "model", 1, *_COSTS, 1, 1, 1.0, 10**6, "assumed")


class Bench:
    """One target, requests put in by hand, and what they were sent: (ms, verdict) by stream."""

    def __init__(self, chunk_tokens: int = 1, draft_window: int = 0, **target: int) -> None:
        self.env = simpy.Environment()
        draft = CloudDraft(ROW, draft_window) if draft_window else None
        self.target = TargetServer(self.env, TargetClass(**target), ROW, FREE, chunk_tokens, draft)  # type: ignore[arg-type]
        self.sent: dict[int, list[tuple[float, Verdict]]] = {}

    def request(
        self, stream: int, prompt: int = 1024, output: int = 1000, accept: bool = True, prefilled: bool = True
    ) -> Request:
        device = Device(stream, 0, 1.0, 0.0, Link(LinkSpec(rtt_ms=0, jitter_ms=0), 0, stream))
        tape, view = Tape([accept] * (output + 16), [0.5] * (output + 16)), StreamView(device.estimate, 1.0, 0.0)
        arrival = Arrival(stream, 0.0, prompt, output, stream)
        request = Request(arrival, device, self.target, tape, Inbox(self.env), view)
        if prefilled:
            request.prefilled, request.verified = prompt, 1
        self.target.live += 1
        self.env.process(self._listen(request))
        return request

    def _listen(self, request: Request):  # type: ignore[no-untyped-def]
        while True:
            verdict = yield request.inbox.receive()
            self.sent.setdefault(request.arrival.stream, []).append((self.env.now, verdict))

    def at(self, ms: float, action, *arguments) -> None:  # type: ignore[no-untyped-def]
        call_later(self.env, ms, lambda: action(*arguments))

    def ends(self) -> list[float]:
        return [end for _, end, _ in self.target.log]


def test_one_window_takes_the_pass_of_its_tokens_and_context() -> None:
    bench = Bench()
    bench.at(3.0, bench.target.verify, bench.request(0), 7)
    bench.env.run(100.0)
    ((when, verdict),) = bench.sent[0]
    assert when == 3.0 + (2 + 1 + 4 + 0.5 + 0.25 + 1025 / 1024)
    assert (verdict.accepted, verdict.tokens, verdict.report.queue_wait_ms, verdict.report.batch_size) == (7, 8, 0.0, 1)


def test_progress_is_accepted_and_one_more() -> None:
    bench = Bench()
    request = bench.request(0, accept=False)
    request.tape.accepted[1:4] = [True, True, False]
    bench.at(0.0, bench.target.verify, request, 5)
    bench.env.run(100.0)
    assert [(v.accepted, v.tokens) for _, v in bench.sent[0]] == [(2, 3)] and request.verified == 4


def test_window_that_arrives_at_an_iterations_end_gets_into_the_next() -> None:
    bench = Bench()
    first, second = bench.request(0), bench.request(1)
    end_ms = 2 + 0.25 + 4 + 0.5 + 0.25 + 1025 / 1024
    bench.at(0.0, bench.target.verify, first, 1)
    bench.at(0.0, bench.target.decode, bench.request(2))
    end_ms += 0.125 + 0.25 + 1025 / 1024
    bench.at(end_ms, bench.target.verify, second, 1)
    bench.env.run(100.0)
    assert bench.sent[0][0][0] == end_ms
    assert bench.sent[1][0][1].report.queue_wait_ms == 0.0 and bench.sent[1][0][0] == bench.ends()[1]


def test_windows_are_served_by_arrival_then_stream() -> None:
    bench = Bench(max_sequences=1)
    for stream, ms in ((3, 1.0), (1, 1.0), (2, 0.5), (0, 2.0)):
        bench.at(ms, bench.target.verify, bench.request(stream), 2)
    bench.env.run(200.0)
    assert sorted(bench.sent, key=lambda stream: bench.sent[stream][0][0]) == [2, 1, 3, 0]


def test_no_iteration_exceeds_the_token_budget_or_max_sequences() -> None:
    bench = Bench(max_batch_tokens=64, max_sequences=6)
    for stream in range(20):
        bench.at(stream % 3, bench.target.verify, bench.request(stream), 5 + stream % 8)
        bench.at(1.0, bench.target.decode, bench.request(100 + stream, output=20))
        bench.at(2.0, bench.target.admit, bench.request(200 + stream, prompt=150, output=1, prefilled=False))
    bench.env.run(20_000.0)
    assert max(tokens for _, _, tokens in bench.target.log) <= 64
    assert max(v.report.batch_size for sent in bench.sent.values() for _, v in sent) <= 6
    assert len(bench.sent) == 60 and bench.target.live == 20  # the windows' streams have more to come


def test_prefill_chunks_fill_what_windows_and_decoding_leave() -> None:
    bench = Bench(max_batch_tokens=100)
    bench.at(0.0, bench.target.decode, bench.request(0))
    bench.at(0.0, bench.target.verify, bench.request(1), 8)
    bench.at(0.0, bench.target.admit, bench.request(2, prompt=200, output=5, prefilled=False))
    bench.env.run(200.0)
    assert [tokens for _, _, tokens in bench.target.log[:4]] == [100, 100, 12, 1]  # 90 + 99 + 11 = 200 of the prompt
    expected_ms = 2 + 12.5 + 25 + 0.5 + 2 * 0.25 + 2 * 1025 / 1024 + 1 + 90 / 64 + 90 * 90 / 65536
    assert bench.ends()[0] == expected_ms
    assert bench.sent[2][0][0] == bench.ends()[2]


def test_decoding_streams_beyond_max_sequences_take_turns() -> None:
    bench = Bench(max_sequences=2)
    for stream in range(5):
        bench.at(0.0, bench.target.decode, bench.request(stream))
    bench.env.run(500.0)
    counts = [len(bench.sent[stream]) for stream in range(5)]
    assert min(counts) > 10 and max(counts) - min(counts) <= 1


def test_memory_is_held_for_life_and_given_back() -> None:
    bench = Bench(kv_tokens=1100)
    first = bench.request(0, prompt=1000, output=50, prefilled=False)
    second = bench.request(1, prompt=1000, output=50, prefilled=False)
    bench.at(0.0, bench.target.admit, first)
    bench.at(1.0, bench.target.admit, second)
    bench.env.run(2000.0)
    assert 0 in bench.sent and 1 not in bench.sent  # the first has its first token and keeps its memory
    bench.at(0.0, bench.target.decode, first)
    bench.env.run(6000.0)
    assert first.verified == 50 and len(bench.sent[1]) == 1
    assert bench.sent[1][0][1].report.queue_wait_ms == bench.sent[0][-1][0] - 1.0


def test_refuses_beyond_the_queue_and_what_never_fits() -> None:
    bench = Bench(kv_tokens=1100, max_queue=2)
    requests = [bench.request(stream, prompt=1000, output=50, prefilled=False) for stream in range(4)]
    assert not bench.target.admit(bench.request(9, prompt=1000, output=101, prefilled=False))
    bench.env.run(1.0)
    assert bench.target.admit(requests[0])
    bench.env.run(1000.0)
    assert [bench.target.admit(request) for request in requests[1:]] == [True, True, False]
    assert bench.target.live == 3


def test_externality_is_the_time_added_times_those_who_wait_for_it() -> None:
    bench = Bench(max_sequences=3)
    for stream, window in ((0, 20), (1, 3), (2, 3), (3, 1)):  # the last one waits for the next iteration
        bench.at(0.0, bench.target.verify, bench.request(stream), window)
    bench.at(1.0, bench.target.verify, bench.request(4), 1)  # comes while the first is under way, and waits for it too
    bench.env.run(500.0)

    def pass_ms(tokens: int, streams: int) -> float:
        return 2 + tokens / 8 + max(4.0, tokens / 4) + 0.5 + streams * (0.25 + 1025 / 1024)

    for stream, tokens in ((0, 21), (1, 4), (2, 4)):
        alone = pass_ms(29, 3) - pass_ms(29 - tokens, 2)
        assert abs(bench.sent[stream][0][1].externality_ms - alone * 4) < 1e-9
    alone = pass_ms(4, 2) - pass_ms(2, 1)
    assert abs(bench.sent[3][0][1].externality_ms - alone) < 1e-9


def test_decoding_goes_on_until_the_stop_and_ends_with_the_iteration_in_progress() -> None:
    bench = Bench(chunk_tokens=4)
    request = bench.request(0)
    bench.at(0.0, bench.target.decode, request)
    pass_ms = 2 + 0.125 + 4 + 0.5 + 0.25 + 1.0
    bench.at(5.5 * pass_ms, bench.target.stop, request)
    bench.env.run(1000.0)
    assert [(v.tokens, v.final) for _, v in bench.sent[0]] == [(4, False), (2, True)]
    assert len(bench.target.log) == 6 and request.verified == 7


def test_co_located_draft_commits_more_an_iteration_and_takes_longer() -> None:
    runs = {}
    for window in (0, 3):
        bench = Bench(draft_window=window)
        bench.at(0.0, bench.target.decode, bench.request(0, output=41))
        bench.env.run(2000.0)
        runs[window] = bench
    assert [v.tokens for _, v in runs[3].sent[0]] == [4] * 10 and len(runs[0].sent[0]) == 40
    first = {window: bench.ends()[0] for window, bench in runs.items()}
    assert first[3] == first[0] + 3 / 8 + 3 * first[0]  # three more tokens in the pass, three draft steps
