import math
from dataclasses import replace

import pytest

from dsd_gym.metrics import meets_slos, request_latencies, scored_requests, summarise
from dsd_gym.records import Records, RequestRecord, Round, Status, TargetRecord


def request(
    stream: int,
    arrival_ms: float,
    tokens: int,
    first_ms: float | None,
    finish_ms: float | None,
    status: Status,
) -> RequestRecord:
    return RequestRecord(stream, 0, 0, 0, arrival_ms, 50, tokens, tokens, first_ms, finish_ms, status)


def round_of(
    stream: int, end_ms: float, window: int, accepted: int, cloud_tokens: int, committed: int
) -> Round:
    drafted = window if committed > cloud_tokens else 0
    return Round(
        stream,
        0.0,
        0.0,
        end_ms,
        window,
        drafted,
        accepted,
        cloud_tokens,
        committed,
        10,
        0,
        20,
        3,
        1.5,
        100,
        50,
    )


def hand_made() -> Records:
    """Two seconds with four scored requests: two finished (11 and 1 tokens), one in flight, one rejected."""
    return Records(
        scenario="by hand",
        seed=0,
        start_ms=1000.0,
        end_ms=3000.0,
        cap_ms=8000.0,
        stopped_ms=9000.0,
        slo_ttft_ms=300.0,
        slo_tpot_ms=60.0,
        requests=[
            request(4, 2900.0, 20, None, None, Status.REJECTED),
            request(0, 500.0, 10, 900.0, 1500.0, Status.FINISHED),  # arrived during the warm-up
            request(1, 1000.0, 11, 1200.0, 1700.0, Status.FINISHED),  # ttft 200, tpot 50, normalised 700 / 11
            request(2, 2000.0, 1, 2300.0, 2300.0, Status.FINISHED),  # ttft 300, no tpot, normalised 300
            request(3, 2500.0, 16, 2900.0, None, Status.IN_FLIGHT),  # ttft 400, charged 8000 / 16
            request(5, 3000.0, 10, 3100.0, 3200.0, Status.FINISHED),  # arrived as the interval closed
        ],
        rounds=[
            round_of(0, 999.0, 4, 4, 0, 5),  # before the interval
            round_of(0, 1000.0, 4, 3, 0, 4),
            round_of(1, 1300.0, 6, 0, 0, 1),
            round_of(1, 1500.0, 0, 0, 8, 8),
            round_of(1, 1700.0, 2, 2, 3, 6),  # back from cloud mode: 3, then 2 accepted and the bonus
            round_of(3, 2999.0, 5, 0, 1, 1),  # the stop came too late: nothing was drafted
            round_of(3, 3000.0, 4, 4, 0, 5),  # after it
        ],
        targets=[TargetRecord(1500.0, 10, 100), TargetRecord(500.0, 3, 30)],
    )


def test_latencies_are_those_calculated_by_hand() -> None:
    metrics = summarise(hand_made())
    normalised = sorted([700 / 11, 300.0, 500.0, 400.0])
    assert metrics["normalised_latency_ms"] == pytest.approx(sum(normalised) / 4)
    assert metrics["normalised_latency_ms_p50"] == pytest.approx(350.0)
    assert metrics["normalised_latency_ms_p95"] == pytest.approx(400 + 0.85 * 100)  # rank .95 x 3 = 2.85
    assert metrics["ttft_ms"] == pytest.approx((200 + 300 + 400 + 8000) / 4)
    assert metrics["ttft_ms_p50"] == pytest.approx(350.0)
    assert metrics["tpot_ms"] == pytest.approx((50 + 500 + 400) / 3)
    assert metrics["tpot_ms_p99"] == pytest.approx(400 + 0.98 * 100)


def test_counts_add_up_to_the_scored_requests() -> None:
    metrics = summarise(hand_made())
    assert [r.stream for r in scored_requests(hand_made())] == [1, 2, 3, 4]
    names = ("scored_requests", "finished", "unfinished", "rejected")
    assert [metrics[name] for name in names] == [4, 2, 1, 1]


def test_production_counts_what_was_received_in_the_interval() -> None:
    metrics = summarise(hand_made())
    assert metrics["throughput_tokens_s"] == (4 + 1 + 8 + 6 + 1 + 3) / 2.0  # rounds, first tokens
    assert metrics["goodput_requests_s"] == 2 / 2.0
    assert metrics["target_utilisation"] == (1500 + 500) / (2 * 2000)


def test_speculation_figures_are_those_calculated_by_hand() -> None:
    metrics = summarise(hand_made())
    assert metrics["acceptance_rate"] == (3 + 0 + 2) / (4 + 6 + 2)
    assert metrics["mean_acceptance_length"] == (4 + 1 + 3) / 3
    assert metrics["mean_window"] == 12 / 3
    assert metrics["tokens_per_round"] == 20 / 5
    assert metrics["cloud_share"] == (8 + 3 + 1) / 20
    assert (metrics["uplink_bytes"], metrics["downlink_bytes"], metrics["rounds"]) == (500, 250, 5)


def test_limits_are_kept_when_met_exactly() -> None:
    finished = request(1, 0.0, 11, 300.0, 900.0, Status.FINISHED)
    assert meets_slos(finished, 300.0, 60.0)
    assert not meets_slos(finished, 299.0, 60.0) and not meets_slos(finished, 300.0, 59.0)
    assert meets_slos(request(1, 0.0, 1, 300.0, 300.0, Status.FINISHED), 300.0, 1.0)
    assert not meets_slos(request(1, 0.0, 11, 300.0, None, Status.IN_FLIGHT), 1e9, 1e9)


def test_leaving_work_behind_never_looks_better() -> None:
    records = hand_made()
    unfinished = {"finish_ms": None, "status": Status.IN_FLIGHT}
    left = [replace(r, **unfinished) if r.stream in (1, 2) else r for r in records.requests]
    before, after = summarise(records), summarise(replace(records, requests=left))
    for name in ("normalised_latency_ms", "tpot_ms", "normalised_latency_ms_p95"):
        assert after[name] >= before[name]
    assert after["unfinished"] == 3 and after["goodput_requests_s"] == 0


def test_order_of_the_records_does_not_matter() -> None:
    records = hand_made()
    backwards = replace(records, requests=records.requests[::-1], rounds=records.rounds[::-1])
    assert summarise(backwards) == summarise(records)


def test_what_never_happened_is_nan_and_nobody_to_score_an_error() -> None:
    records = replace(hand_made(), rounds=[], targets=[], requests=[hand_made().requests[3]])
    metrics = summarise(records)
    for name in ("acceptance_rate", "mean_window", "cloud_share", "tpot_ms_p50", "target_utilisation"):
        assert math.isnan(metrics[name])
    assert metrics["normalised_latency_ms"] == 300.0
    with pytest.raises(ValueError, match="no request arrived between 1000 and 3000 ms"):
        request_latencies(replace(records, requests=[]))
