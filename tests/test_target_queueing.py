"""A target that serves one window a pass is a single-server queue: its waits are those of queueing theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from target_bench import ROW, Bench

JOBS = 9_000
MS_A_TOKEN = 0.05
# A pass of n tokens takes n x MS_A_TOKEN, so that lengths set the law of service.
LINEAR = replace(
    ROW,
    fixed_ms=0.0,
    token_ms=MS_A_TOKEN,
    weights_ms=1e-9,
    compute_ms=1e-12,
    attention_fixed_ms=0.0,
    attention_sequence_ms=0.0,
    attention_context_ms=0.0,
)
LAWS = {
    "deterministic": lambda random, n: np.full(n, 200.0),
    "exponential": lambda random, n: random.exponential(200.0, n),
    "hyperexponential": lambda random, n: random.exponential(np.where(random.random(n) < 0.9, 100.0, 1100.0)),
}
"""Service of 10 ms on average, with coefficients of variation of 0, 1 and 1.8."""


class Queue:
    """Poisson windows of several classes at one target, one a pass."""

    def __init__(self, order: str, seed: int) -> None:
        self.bench = Bench(row=LINEAR, max_sequences=1, max_batch_tokens=10**6, order=order)
        self._random = np.random.default_rng(seed)
        self.arrivals_ms: list[float] = []

    def add(self, stream: int, law: str, rate_per_ms: float, jobs: int) -> NDArray[np.float64]:
        """Let windows arrive, of class and stream `stream`; return their service times in ms."""
        request = self.bench.request(stream, output=10**6, accept=False, priority=stream)
        tokens = np.maximum(LAWS[law](self._random, jobs).round(), 2.0)
        arrivals_ms = np.cumsum(self._random.exponential(1 / rate_per_ms, jobs))
        self.arrivals_ms += arrivals_ms.tolist()
        for ms, size in zip(arrivals_ms, tokens, strict=True):
            self.bench.at(float(ms), self.bench.target.verify, request, int(size) - 1)
        return tokens * MS_A_TOKEN

    def waits(self, stream: int) -> list[float]:
        """Return what the windows waited for their pass, in ms."""
        return [verdict.report.queue_wait_ms for _, verdict in self.bench.sent[stream]]


@pytest.mark.parametrize(("law", "load"), [("deterministic", 0.7), ("exponential", 0.6), ("hyperexponential", 0.5)])
def test_waits_follow_pollaczek_and_khinchine(law: str, load: float) -> None:
    """M/D/1, M/M/1, M/G/1: the mean wait is rate x E[S^2] / (2 (1 - load)), with the moments of the very jobs."""
    waits, expected = [], []
    for seed in (1, 2, 3):
        queue = Queue("fifo", seed)
        service_ms = queue.add(0, law, load / 10.0, JOBS)
        queue.bench.env.run()
        rate = load / 10.0
        expected.append(rate * np.mean(service_ms**2) / (2.0 * (1.0 - rate * np.mean(service_ms))))
        waits += queue.waits(0)
    # 27 000 dependent waits: standard error below 5 %.
    assert len(waits) == 3 * JOBS and np.mean(waits) == pytest.approx(np.mean(expected), rel=0.1)


@pytest.mark.parametrize("order", ["fifo", "priority", "edf", "length_aware"])
def test_no_order_changes_the_total_wait_of_equal_jobs(order: str) -> None:
    """Whoever goes first makes somebody else wait as much longer: the total is that of Lindley's recursion."""
    queue = Queue(order, 4)
    for stream in (0, 1):
        queue.add(stream, "deterministic", 0.035, JOBS // 4)
    queue.bench.env.run()
    free_ms = expected_ms = 0.0
    for arrival_ms in sorted(queue.arrivals_ms):
        expected_ms += max(0.0, free_ms - arrival_ms)
        free_ms = max(free_ms, arrival_ms) + 10.0
    assert sum(queue.waits(0)) + sum(queue.waits(1)) == pytest.approx(expected_ms, rel=1e-6)


def test_priority_waits_follow_cobham() -> None:
    """Cobham 1954: R / (1 - load_0) and R / ((1 - load_0) (1 - load)), where R = sum of rate x E[S^2] / 2."""
    waits: dict[int, list[float]] = {0: [], 1: []}
    residual_ms, loads = [], []
    for seed in (1, 2, 3):
        queue = Queue("priority", seed)
        services = [queue.add(0, "exponential", 0.03, JOBS // 2), queue.add(1, "exponential", 0.04, JOBS * 2 // 3)]
        queue.bench.env.run()
        rates = (0.03, 0.04)
        residual_ms.append(sum(rate * np.mean(s**2) / 2 for rate, s in zip(rates, services, strict=True)))
        loads.append([rate * np.mean(s) for rate, s in zip(rates, services, strict=True)])
        for stream in (0, 1):
            waits[stream] += queue.waits(stream)
    (first, second), residual = np.mean(loads, axis=0), np.mean(residual_ms)
    assert np.mean(waits[0]) == pytest.approx(residual / (1 - first), rel=0.06)
    assert np.mean(waits[1]) == pytest.approx(residual / ((1 - first) * (1 - first - second)), rel=0.15)


def test_an_overload_of_the_second_class_leaves_the_first_what_it_had() -> None:
    """With the target never idle, the first class waits for half a pass of the second, and for its own."""
    queue = Queue("priority", 5)
    queue.add(0, "deterministic", 0.03, 3000)
    queue.add(1, "deterministic", 0.11, 9000)
    queue.bench.env.run(80_000.0)
    assert np.mean(queue.waits(0)[100:]) == pytest.approx(10.0 / 2 / (1 - 0.3), rel=0.08)
    assert max(queue.waits(1)) > 10_000.0
