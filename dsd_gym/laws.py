"""The laws of a workload: gaps, rates, lengths and devices of requests, as functions of plain numbers.

`dsd_gym.workload` draws with them one request at a time; the compiled twin compiles them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.reference import saturation_rate
from dsd_gym.scenario import Lengths, Scenario, Workload
from dsd_gym.scenario.mix import mean_lengths


class ArrivalLaw(NamedTuple):
    """How an open loop's requests arrive: a renewal process at the peak rate, thinned to the rate of the moment."""

    peak_per_s: float
    peak: float
    """The peak rate relative to the workload's rate."""
    burst_share: float
    """Share of the shorter gaps of a hyperexponential; 0: gaps are exponential."""
    swing: float
    period_ms: float
    cycle_ms: float
    """Length of all pieces together; 0: the rate has no pieces."""
    durations_ms: Sequence[float] | NDArray[np.float64]
    factors: Sequence[float] | NDArray[np.float64]


class LengthLaw(NamedTuple):
    """Log-normal prompt and output lengths: medians, deviations of the logarithm, and what they are cut to."""

    prompt_median: float
    prompt_sigma: float
    max_prompt: int
    output_median: float
    output_sigma: float
    max_output: int


def arrival_law(scenario: Scenario) -> ArrivalLaw:
    """Return how the requests of an open loop with synthetic arrivals come."""
    workload, rate = scenario.workload, scenario.workload.rate_per_s
    if rate is None:
        rate = (workload.load or 0.0) * saturation_rate(scenario, *mean_lengths(scenario))
    factors, swing = _shape(workload)
    squared = workload.burst_cv**2
    share = 0.5 * (1.0 + math.sqrt((squared - 1.0) / (squared + 1.0)))
    peak = max(factors, default=1.0 + swing)
    durations_ms = [piece.duration_ms for piece in workload.pieces] if factors else []
    return ArrivalLaw(
        rate * peak,
        peak,
        share if workload.kind == "bursty" else 0.0,
        swing,
        workload.period_ms,
        sum(durations_ms, start=0.0),
        durations_ms,
        factors,
    )


def length_law(lengths: Lengths) -> LengthLaw:
    """Return the law of these lengths."""
    return LengthLaw(
        lengths.prompt_median,
        math.sqrt(2.0 * math.log(lengths.prompt_mean / lengths.prompt_median)),
        lengths.max_prompt,
        lengths.output_median,
        math.sqrt(2.0 * math.log(lengths.output_mean / lengths.output_median)),
        lengths.max_output,
    )


def renewal_gap(number: float, phase: float, burst_share: float) -> float:
    """Return an inter-arrival time of mean 1 made of uniform numbers.

    Exponential, or with a `burst_share` a two-phase hyperexponential with balanced means.
    """
    gap = -math.log(number)
    if burst_share == 0.0:
        return gap
    return gap / (2.0 * (burst_share if phase < burst_share else 1.0 - burst_share))


def factor_at(law: ArrivalLaw, now_ms: float) -> float:
    """Return the arrival rate at `now_ms` relative to the workload's rate."""
    if law.cycle_ms > 0.0:
        now_ms %= law.cycle_ms
        for piece in range(len(law.durations_ms)):
            now_ms -= law.durations_ms[piece]
            if now_ms < 0.0:
                return law.factors[piece]
    if law.swing > 0.0:
        return 1.0 + law.swing * math.sin(2.0 * math.pi * now_ms / law.period_ms)
    return 1.0


def log_normal(median: float, sigma: float, normal: float) -> float:
    """Return a log-normal number made of a standard normal one."""
    return median * math.exp(sigma * normal)


def clipped(tokens: int, most: int) -> int:
    """Return a length that a request may have."""
    return max(1, min(tokens, most))


def owned_device(stream: int, owners: int, devices: int) -> int:
    """Return the place in the order of devices of the one that sends request `stream`."""
    return (stream % owners) % devices


def device_order(numbers: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return all devices in the order of a random number of each: requests go round all before one gets its next."""
    return np.argsort(numbers, kind="stable")


def _shape(workload: Workload) -> tuple[list[float], float]:
    """Return the factors of a piecewise load, and the swing of a diurnal one."""
    factors = [piece.factor for piece in workload.pieces] if workload.kind == "piecewise" else []
    return factors, workload.swing if workload.kind == "diurnal" else 0.0
