"""How one request is scored: its latencies, and whether it met its limits."""

from __future__ import annotations

from typing import NamedTuple

from dsd_gym.records import RequestRecord


class Latencies(NamedTuple):
    """One request's latencies in ms; `tpot_ms` is None for a one-token output."""

    ttft_ms: float
    tpot_ms: float | None
    normalised_latency_ms: float


def latencies_of(request: RequestRecord, cap_ms: float) -> Latencies:
    """Return a request's latencies; what never came is charged `cap_ms`, end to end."""
    tokens = request.output_tokens
    ttft_ms = cap_ms if request.first_token_ms is None else request.first_token_ms - request.arrival_ms
    if request.finish_ms is None:
        charged_ms = cap_ms / tokens
        return Latencies(ttft_ms, charged_ms if tokens > 1 else None, charged_ms)
    elapsed_ms = request.finish_ms - request.arrival_ms
    tpot_ms = (elapsed_ms - ttft_ms) / (tokens - 1) if tokens > 1 else None
    return Latencies(ttft_ms, tpot_ms, elapsed_ms / tokens)


def meets_slos(request: RequestRecord, slo_ttft_ms: float, slo_tpot_ms: float) -> bool:
    """Return whether a request finished within both limits; a one-token output has no TPOT to miss."""
    if request.finish_ms is None:
        return False
    ttft_ms, tpot_ms, _ = latencies_of(request, 0.0)
    return ttft_ms <= slo_ttft_ms and (tpot_ms is None or tpot_ms <= slo_tpot_ms)
