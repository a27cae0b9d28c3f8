"""Whole runs in the limits that queueing theory solves: one queue, queues in series, and as many servers as jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from agents import make_controller
from dsd_gym.network import make_links
from dsd_gym.records import RequestRecord, Status
from dsd_gym.reference import target_row
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Messages, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate
from dsd_gym.workload import Population

ONE_BY_ONE = TargetClass("h100", "Llama-3.1-8B", 1, max_sequences=1, max_batch_tokens=10**6, max_queue=10**6)
ROW = target_row(ONE_BY_ONE)
BYTES_A_TOKEN = 4.0
# Jobs: prompts of one output token. They share one uplink, and the target reads one prompt a pass.
JOBS = Scenario(
    edges=(EdgeClass(count=50, prefill_ms_per_token=0.0, site="office"),),
    link=LinkSpec(rtt_ms=0, jitter_ms=0, up_mbps=1e9, down_mbps=1e9, queueing="site"),
    targets=(ONE_BY_ONE,),
    lengths=Lengths(200, 200, 1, 1, max_prompt=10**6),
    messages=Messages(BYTES_A_TOKEN, header_bytes=0, committed_token_bytes=0),
    warm_up_ms=0,
    horizon_ms=1e12,
    drain_ms=1e9,
    max_requests=3000,
)
MIXED = Lengths(400, 250, 1, 1, max_prompt=10**6)
"""Log-normal prompts, whose coefficient of variation is 1.25."""


def pass_ms(prompt_tokens: int) -> float:
    """Return the ms in which the target reads a prompt alone."""
    attention_ms = ROW.prefill_fixed_ms + ROW.prefill_token_ms * prompt_tokens + ROW.prefill_pair_ms * prompt_tokens**2
    return ROW.iteration_ms(prompt_tokens, 0, 0) + attention_ms


def uplink_mbps(ms_a_token: float) -> float:
    """Return the bandwidth at which a prompt's token takes so long."""
    return BYTES_A_TOKEN * 8.0 / 1000.0 / ms_a_token


def in_order(scenario: Scenario, seed: int) -> list[RequestRecord]:
    return sorted(simulate(scenario, make_controller("static:1", 12), seed).requests, key=lambda r: r.arrival_ms)


def ttft_ms(requests: list[RequestRecord]) -> NDArray[np.float64]:
    assert {request.status for request in requests} == {Status.FINISHED}
    return np.array([request.first_token_ms - request.arrival_ms for request in requests])  # type: ignore[operator]


def lindley_ms(requests: list[RequestRecord], service_ms: Callable[[int], float]) -> NDArray[np.float64]:
    """Return each job's wait for a single server: W' = max(0, W + S - gap) (Lindley, 1952)."""
    waits_ms = [0.0]
    for job, following in pairwise(requests):
        gap_ms = following.arrival_ms - job.arrival_ms
        waits_ms.append(max(0.0, waits_ms[-1] + service_ms(job.prompt_tokens) - gap_ms))
    return np.array(waits_ms)


def pollaczek_khinchine_ms(rate_per_ms: float, service_ms: NDArray[np.float64]) -> float:
    return float(rate_per_ms * np.mean(service_ms**2) / (2.0 * (1.0 - rate_per_ms * np.mean(service_ms))))


@pytest.mark.parametrize("station", ["target", "uplink"])
def test_mixed_prompts_wait_as_pollaczek_and_khinchine_have_it(station: str) -> None:
    """M/G/1 with the moments of the very jobs: 12,000 dependent waits at load 0.6, standard error some 5 %."""
    means, expected = [], []
    for seed in range(4):
        service_ms, scenario = fed(station, 0.6)
        requests = in_order(scenario, seed)
        services_ms = np.array([service_ms(request.prompt_tokens) for request in requests])
        waits_ms = lindley_ms(requests, service_ms)
        over_ms = ttft_ms(requests) - services_ms - waits_ms
        if station == "target":
            assert over_ms == pytest.approx(0.0, abs=1e-3)
        else:  # then the target reads, maybe after what it is just reading
            assert pass_ms(1) - 1e-3 < over_ms.min() and np.median(over_ms) < 3 * pass_ms(40)
        rate_per_ms = (len(requests) - 1) / (requests[-1].arrival_ms - requests[0].arrival_ms)
        means.append(waits_ms.mean())
        expected.append(pollaczek_khinchine_ms(rate_per_ms, services_ms))
    assert np.mean(means) == pytest.approx(np.mean(expected), rel=0.15)


def fed(station: str, load: float) -> tuple[Callable[[int], float], Scenario]:
    """Return what a job takes at the station that is the narrow one, and the scenario."""
    if station == "target":
        mean_ms = 11.8  # of passes of such prompts
        return pass_ms, replace(JOBS, lengths=MIXED, workload=Workload(rate_per_s=1000.0 * load / mean_ms))
    wide = replace(ONE_BY_ONE, max_sequences=10**6)
    short = replace(MIXED, prompt_mean=40, prompt_median=25)
    link = replace(JOBS.link, up_mbps=uplink_mbps(1.0))  # a ms a token
    scenario = replace(
        JOBS, lengths=short, link=link, targets=(wide,), workload=Workload(rate_per_s=1000.0 * load / 40)
    )
    return float, scenario


@pytest.mark.parametrize(("link_ms", "slower"), [(1.3, "link"), (0.6, "target")])
def test_in_series_equal_jobs_wait_as_at_the_slower_station_alone(link_ms: float, slower: str) -> None:
    """Constant service in series: the sum of waits is that of the slowest station fed directly (Friedman, 1965)."""
    read_ms = pass_ms(200)
    transmit_ms = link_ms * read_ms
    slowest_ms = max(read_ms, transmit_ms)
    link = replace(JOBS.link, up_mbps=uplink_mbps(transmit_ms / 200))
    requests = in_order(replace(JOBS, link=link, workload=Workload(rate_per_s=800.0 / slowest_ms)), 3)
    waits_ms = lindley_ms(requests, lambda tokens: slowest_ms)
    assert waits_ms.mean() > slowest_ms
    assert ttft_ms(requests) == pytest.approx(waits_ms + transmit_ms + read_ms, abs=1e-3)


def test_with_room_for_all_the_number_in_the_system_is_poisson() -> None:
    """M/G/infinity: whatever the lengths, live requests are Poisson with mean rate x stay; variance equals mean."""
    roomy = TargetClass("h100", "Llama-3.1-8B", 1, host_ms=200.0)  # tokens are free beside it: a stay is set by lengths
    scenario = replace(
        JOBS,
        link=LinkSpec(rtt_ms=0, jitter_ms=0, up_mbps=1e9, down_mbps=1e9),
        targets=(roomy,),
        lengths=Lengths(8, 8, 20, 8, max_output=200),
        workload=Workload(rate_per_s=3.0),
        max_requests=4000,
    )
    requests = [r for r in in_order(scenario, 0) if r.finish_ms]
    stays_ms = np.array([r.finish_ms - r.arrival_ms for r in requests])  # type: ignore[operator]
    at_ms = np.arange(60_000.0, requests[-1].arrival_ms, 500.0)
    arrivals_ms = np.array([r.arrival_ms for r in requests])
    ends_ms = np.sort(arrivals_ms + stays_ms)
    live = np.searchsorted(arrivals_ms, at_ms, side="right") - np.searchsorted(ends_ms, at_ms, side="right")
    rate = len(requests) / requests[-1].arrival_ms
    assert live.mean() == pytest.approx(rate * stays_ms.mean(), rel=0.03)
    assert live.var() == pytest.approx(live.mean(), rel=0.15)  # some 800 stays' worth of time


@pytest.mark.parametrize("users", [1, 8, 64])
def test_closed_users_keep_the_response_time_law_and_its_bounds(users: int) -> None:
    """R = N / X - Z with the mean Z of the very pauses; X is at most what the target reads, or nobody waits."""
    think_ms, read_ms, horizon_ms = 300.0, pass_ms(200), 40_000.0
    closed = Workload("closed", users=users, think_ms=think_ms)
    scenario = replace(JOBS, workload=closed, horizon_ms=horizon_ms, max_requests=None)
    requests, population = in_order(scenario, 1), Population(scenario, 1)
    pause_ms = np.mean([population.think_ms(request.stream) for request in requests])
    response_ms, last_ms = ttft_ms(requests).mean(), dict.fromkeys(range(users), 0.0)
    for request in requests:
        last_ms[request.stream % users] = request.finish_ms or 0.0
    rate_per_ms = len(requests) / np.mean(list(last_ms.values()))
    assert response_ms == pytest.approx(users / rate_per_ms - pause_ms, abs=1e-6)
    assert rate_per_ms <= 1.02 * min(1.0 / read_ms, users / (pause_ms + read_ms)) and len(requests) > 100 * users**0.5
    assert response_ms >= read_ms - 1e-6


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_pipe_with_mixed_messages_is_an_m_g_1_queue(way: str) -> None:
    """Hyperexponential messages of mean 1 ms at load 0.6: 60,000 waits, standard error some 4 %."""
    random = np.random.default_rng(7)
    spec = LinkSpec(rtt_ms=10, jitter_ms=0, up_mbps=0.8, down_mbps=0.8, queueing="site")  # 100 bytes a ms
    sizes = 100.0 * random.exponential(np.where(random.random(60_000) < 0.9, 0.5, 5.5))
    gaps_ms = random.exponential(1.0 / 0.6, 60_000)
    links = make_links((EdgeClass(count=3, site="office"),), spec, 0)
    waits_ms = [
        (links[index % 3].uplink if way == "up" else links[index % 3].downlink)(now_ms, size)[0] - 5.0
        for index, (now_ms, size) in enumerate(zip(np.cumsum(gaps_ms).tolist(), sizes.tolist(), strict=True))
    ]
    expected_ms = pollaczek_khinchine_ms(1.0 / float(gaps_ms.mean()), sizes / 100.0)
    assert np.mean(waits_ms) == pytest.approx(expected_ms, rel=0.1)
