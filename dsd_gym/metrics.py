"""From records to figures: how long users waited, how much was produced, how well drafts were guessed.

Pure functions. The simulator and the runtime write the same records, so one table serves both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dsd_gym.counts import Counts, Metrics
from dsd_gym.distribution import Exact
from dsd_gym.records import Records, RequestRecord, Round
from dsd_gym.rounds import as_array
from dsd_gym.scoring import latencies_of, meets_slos
from dsd_gym.tally import Tally, figures

FloatArray: TypeAlias = NDArray[np.float64]

__all__ = [
    "Metrics",
    "RequestLatencies",
    "meets_slos",
    "metric_names",
    "request_latencies",
    "rounds_inside",
    "scored_requests",
    "summarise",
]


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
      `goodput_requests_s`: scored requests that met both SLOs of their class, a second; `slo_attainment`: their share.
      Where there are request classes, both also stand by class: `goodput_requests_s.NAME`.
    - `acceptance_rate`: accepted / drafted. `mean_acceptance_length`: accepted and extra tokens of a verified
      window. `mean_window`: drafted tokens of one. `tokens_per_round`: committed in a round of either mode.
    - `cloud_share`: the share of the rounds' tokens that the target decoded alone.
      `target_utilisation`: the share of the interval that targets were busy.
    - `uplink_bytes`, `downlink_bytes`: of the rounds. `rounds`: how many.
    - `scored_requests` = `finished` + `unfinished` + `rejected`. `degraded`: those that admission left to the cloud.

    A figure of something that never happened (the acceptance rate where nothing was drafted) is nan.

    Raises:
        ValueError: no request arrived in the measured interval.
    """
    tally = Tally(Exact)
    tally.begin(records)
    tally.add_rounds(as_array(records.rounds))
    for request in _in_order(records.requests):
        tally.add_request(request)
    tally.end(records)
    return tally.metrics()


def metric_names(classes: Iterable[str] = ()) -> list[str]:
    """Return the names that `summarise` gives to the figures of a run with these request classes."""
    counts = Counts(scored_by_class=Counter(dict.fromkeys(classes, 0)))
    return list(figures(counts, {name: Exact() for name in RequestLatencies._fields}))


def scored_requests(records: Records) -> list[RequestRecord]:
    """Return the requests that arrived in the measured interval, in order of arrival."""
    return _in_order(r for r in records.requests if records.start_ms <= r.arrival_ms < records.end_ms)


def _in_order(requests: Iterable[RequestRecord]) -> list[RequestRecord]:
    return sorted(requests, key=lambda request: (request.arrival_ms, request.stream))


def rounds_inside(records: Records) -> list[Round]:
    """Return the rounds that ended in the measured interval."""
    return [round for round in records.rounds if records.start_ms <= round.end_ms < records.end_ms]


def request_latencies(records: Records) -> RequestLatencies:
    """Return the latencies of the scored requests; ValueError if there are none."""
    scored = scored_requests(records)
    if not scored:
        raise ValueError(f"no request arrived between {records.start_ms:g} and {records.end_ms:g} ms")
    rows = [latencies_of(request, records.cap_ms) for request in scored]
    ttft_ms, tpot_ms, normalised_ms = np.array(rows, dtype=np.float64).T
    return RequestLatencies(ttft_ms, tpot_ms[~np.isnan(tpot_ms)], normalised_ms)
