"""A target: who rides in an iteration, how long it takes, what it holds, whom it refuses. Times are worked by hand."""

from __future__ import annotations

from target_bench import Bench


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
    assert max(bench.tokens()) <= 64
    assert max(v.report.batch_size for sent in bench.sent.values() for _, v in sent) <= 6
    assert len(bench.sent) == 60 and bench.target.live == 20  # the windows' streams have more to come


def test_prefill_chunks_fill_what_windows_and_decoding_leave() -> None:
    bench = Bench(max_batch_tokens=100)
    bench.at(0.0, bench.target.decode, bench.request(0))
    bench.at(0.0, bench.target.verify, bench.request(1), 8)
    bench.at(0.0, bench.target.admit, bench.request(2, prompt=200, output=5, prefilled=False))
    bench.env.run(200.0)
    assert bench.tokens()[:4] == [100, 100, 12, 1]  # 90 + 99 + 11 = 200 of the prompt
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


def test_externality_of_cloud_decoding_counts_the_draft_beside_the_target() -> None:
    bench = Bench(draft_window=2)
    for stream in (0, 1):
        bench.at(0.0, bench.target.decode, bench.request(stream))
    bench.at(0.0, bench.target.verify, bench.request(2), 3)
    bench.env.run(500.0)

    def pass_ms(tokens: int, streams: int) -> float:
        return 2 + tokens / 8 + max(4.0, tokens / 4) + 0.5 + streams * (0.25 + 1025 / 1024)

    alone = pass_ms(10, 3) + 2 * pass_ms(2, 2) - (pass_ms(7, 2) + 2 * pass_ms(1, 1))
    for stream in (0, 1):
        assert abs(bench.sent[stream][0][1].externality_ms - alone * 2) < 1e-9


def test_decoding_goes_on_until_the_stop_and_ends_with_the_iteration_in_progress() -> None:
    bench = Bench(chunk_tokens=4)
    request = bench.request(0)
    bench.at(0.0, bench.target.decode, request)
    pass_ms = 2 + 0.125 + 4 + 0.5 + 0.25 + 1.0
    bench.at(5.5 * pass_ms, bench.target.stop, request)
    bench.env.run(1000.0)
    assert [(v.tokens, v.final) for _, v in bench.sent[0]] == [(4, False), (2, True)]
    assert len(bench.passes) == 6 and request.verified == 7


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


def test_load_tells_what_waits_and_what_is_held() -> None:
    bench = Bench(kv_tokens=2000, max_batch_tokens=100)
    first, second = (bench.request(stream, prompt=900, output=100, prefilled=False) for stream in (0, 1))
    third = bench.request(2, prompt=500, output=100, prefilled=False)
    assert bench.target.load() == (0, 0, 0, 3, 0.0, bench.target.one_token_iteration_ms, 0, 0.0)
    for request in (first, second, third):
        bench.at(0.0, bench.target.admit, request)
    bench.at(45.0, bench.target.verify, bench.request(3), 4)
    bench.env.run(50.0)
    load = bench.target.load()  # one pass is over, one under way; the window waits, the third prompt finds no memory
    assert (load.waiting_requests, load.waiting_windows, load.live_requests) == (1, 1, 4)
    assert load.waiting_prompt_tokens == 900 - 100 + 900 + 500 and load.kv_share == 1.0
    assert (load.ended_ms, load.batch_size) == (bench.passes[0][1], 1)
    assert load.iteration_ms == bench.passes[0][1] - bench.passes[0][0]


def test_host_time_is_added_to_each_pass() -> None:
    ends = {}
    for host_ms in (0.0, 8.0):
        bench = Bench(host_ms=host_ms)
        bench.at(0.0, bench.target.decode, bench.request(0, output=21))
        bench.env.run(2000.0)
        ends[host_ms] = bench.ends()
    assert [b - a for a, b in zip(ends[0.0], ends[8.0], strict=True)] == [8.0 * at for at in range(1, 21)]
    assert bench.sent[0][0][1].report.one_token_iteration_ms == 2 + 0.125 + 4 + 0.5 + 0.25 + 8.0


def test_a_target_is_never_idle_while_work_that_fits_is_queued() -> None:
    bench = Bench(max_batch_tokens=64, max_sequences=4)
    for stream in range(12):
        bench.live(bench.request(stream, prompt=90, output=40, prefilled=False, listen=False), 0.0, (3, 0, 7), 0.0)
    bench.env.run(60_000.0)
    starts, ends = [start_ms for start_ms, *_ in bench.passes], bench.ends()
    assert bench.target.live == 0 and starts[1:] == ends[:-1]  # twelve edges that draft in no time leave no gap
