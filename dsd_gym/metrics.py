"""From records to figures: how long users waited, how much was produced, how well drafts were guessed.

Pure functions. The simulator and the runtime write the same records, so one table serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dsd_gym.records import Records, RequestRecord, Round, Status

FloatArray: TypeAlias = NDArray[np.float64]
Metrics: TypeAlias = dict[str, float]

PERCENTILES = (50, 95, 99)


class RequestLatencies(NamedTuple):
    """Latencies of the scored requests in ms, in order of arrival; `tpot_ms` leaves out one-token outputs."""

    ttft_ms: FloatArray
    tpot_ms: FloatArray
    normalised_latency_ms: FloatArray


def summarise(records: Records) -> Metrics:
    """Return every figure of one run, by name.

    Requests that arrive in the measured interval [`start_ms`, `end_ms`) are scored, whenever they finish; one
    that was rejected or had not finished when the run ended is charged `cap_ms`. Work is counted where it was
    received: rounds that ended, and first tokens that came, in the interval.

    - `normalised_latency_ms` (the headline): end-to-end ms / output tokens. `ttft_ms`: to the first token.
      `tpot_ms`: (end-to-end - TTFT) / (output tokens - 1). Means, with `_p50`, `_p95`, `_p99` beside them.
    - `throughput_tokens_s`: tokens received a second.
      `goodput_requests_s`: scored requests that met both SLOs, a second.
    - `acceptance_rate`: accepted / drafted. `mean_acceptance_length`: accepted and extra tokens of a verified
      window. `mean_window`: drafted tokens of one. `tokens_per_round`: committed in a round of either mode.
    - `cloud_share`: the share of the rounds' tokens that the target decoded alone.
      `target_utilisation`: the share of the interval that targets were busy.
    - `uplink_bytes`, `downlink_bytes`: of the rounds. `rounds`: how many.
    - `scored_requests` = `finished` + `unfinished` + `rejected`.

    A figure of something that never happened (the acceptance rate where nothing was drafted) is nan.

    Raises:
        ValueError: no request arrived in the measured interval.
    """
    latencies = request_latencies(records)
    metrics: Metrics = {}
    for name, values in latencies._asdict().items():
        metrics |= _distribution(name, values)
    speculation, counts = _speculation(rounds_inside(records)), _counts(scored_requests(records))
    return metrics | _production(records) | speculation | counts


def scored_requests(records: Records) -> list[RequestRecord]:
    """Return the requests that arrived in the measured interval, in order of arrival."""
    scored = [r for r in records.requests if records.start_ms <= r.arrival_ms < records.end_ms]
    return sorted(scored, key=lambda request: (request.arrival_ms, request.stream))


def rounds_inside(records: Records) -> list[Round]:
    """Return the rounds that ended in the measured interval."""
    return [round for round in records.rounds if records.start_ms <= round.end_ms < records.end_ms]


def request_latencies(records: Records) -> RequestLatencies:
    """Return the latencies of the scored requests; ValueError if there are none."""
    scored = scored_requests(records)
    if not scored:
        raise ValueError(f"no request arrived between {records.start_ms:g} and {records.end_ms:g} ms")
    rows = [_latencies(request, records.cap_ms) for request in scored]
    ttft_ms, tpot_ms, normalised_ms = np.array(rows, dtype=np.float64).T
    return RequestLatencies(ttft_ms, tpot_ms[~np.isnan(tpot_ms)], normalised_ms)


def _latencies(request: RequestRecord, cap_ms: float) -> tuple[float, float, float]:
    """Return TTFT, TPOT (nan for a one-token output) and normalised latency of one request."""
    tokens = request.output_tokens
    ttft_ms = cap_ms if request.first_token_ms is None else request.first_token_ms - request.arrival_ms
    if request.finish_ms is None:
        charged_ms = cap_ms / tokens
        return ttft_ms, charged_ms if tokens > 1 else np.nan, charged_ms
    elapsed_ms = request.finish_ms - request.arrival_ms
    tpot_ms = (elapsed_ms - ttft_ms) / (tokens - 1) if tokens > 1 else np.nan
    return ttft_ms, tpot_ms, elapsed_ms / tokens


def meets_slos(request: RequestRecord, slo_ttft_ms: float, slo_tpot_ms: float) -> bool:
    """Return whether a request finished within both limits; a one-token output has no TPOT to miss."""
    if request.finish_ms is None:
        return False
    ttft_ms, tpot_ms, _ = _latencies(request, np.nan)
    return ttft_ms <= slo_ttft_ms and not tpot_ms > slo_tpot_ms


def _distribution(name: str, values: FloatArray) -> Metrics:
    figures = {name: float(values.mean()) if len(values) else np.nan}
    for percentile in PERCENTILES:
        figures[f"{name}_p{percentile}"] = float(np.percentile(values, percentile)) if len(values) else np.nan
    return figures


def _production(records: Records) -> Metrics:
    """Return what was produced in the interval, a second, and how busy the targets were with it."""
    interval_s = (records.end_ms - records.start_ms) / 1000.0
    first_tokens = sum(
        r.first_token_ms is not None and records.start_ms <= r.first_token_ms < records.end_ms
        for r in records.requests
    )
    tokens = first_tokens + sum(round.committed for round in rounds_inside(records))
    good = sum(meets_slos(r, records.slo_ttft_ms, records.slo_tpot_ms) for r in scored_requests(records))
    busy_s = sum(target.busy_ms for target in records.targets) / 1000.0
    return {
        "throughput_tokens_s": tokens / interval_s,
        "goodput_requests_s": good / interval_s,
        "target_utilisation": _ratio(busy_s, len(records.targets) * interval_s),
    }


def _speculation(rounds: Sequence[Round]) -> Metrics:
    verified = [round for round in rounds if round.drafted > 0]
    drafted = sum(round.drafted for round in verified)
    committed = sum(round.committed for round in rounds)
    cloud_tokens = sum(round.cloud_tokens for round in rounds)
    won = sum(round.committed - round.cloud_tokens for round in verified)
    return {
        "acceptance_rate": _ratio(sum(round.accepted for round in verified), drafted),
        "mean_acceptance_length": _ratio(won, len(verified)),
        "mean_window": _ratio(drafted, len(verified)),
        "tokens_per_round": _ratio(committed, len(rounds)),
        "cloud_share": _ratio(cloud_tokens, committed),
        "uplink_bytes": float(sum(round.uplink_bytes for round in rounds)),
        "downlink_bytes": float(sum(round.downlink_bytes for round in rounds)),
        "rounds": len(rounds),
    }


def _counts(scored: Sequence[RequestRecord]) -> Metrics:
    counts = {status: sum(request.status is status for request in scored) for status in Status}
    return {
        "scored_requests": len(scored),
        "finished": counts[Status.FINISHED],
        "unfinished": counts[Status.IN_FLIGHT],
        "rejected": counts[Status.REJECTED],
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else np.nan
