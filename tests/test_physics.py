"""One undisturbed request, and one plain queue: the simulator against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents import make_controller
from dsd_gym.acceptance import expected_tokens
from dsd_gym.records import Records
from dsd_gym.reference import target_row
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Messages, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate
from dsd_gym.theory import break_even_rtt_ms, zero_load_tpot_ms

# A 50 ms target on which tokens and context are all but free (an 8B on an H100 and host time), and one user at a time.
TARGET = TargetClass(device="h100", model="Llama-3.1-8B", tensor_parallel=1)
TARGET = replace(TARGET, host_ms=50.0 - target_row(TARGET).one_token_iteration_ms)
QUIET = Scenario(
    edges=(EdgeClass(count=1, draft_ms_per_token=10.0, prefill_ms_per_token=0.0),),
    link=LinkSpec(rtt_ms=40, jitter_ms=0, up_mbps=10_000, down_mbps=10_000),
    targets=(TARGET,),
    workload=Workload(kind="closed", users=1),
    lengths=Lengths(prompt_mean=64, prompt_median=64, output_mean=1000, output_median=1000),
    acceptance=Acceptance(profile="constant", probability=0.7),
    messages=Messages(header_bytes=0),
    warm_up_ms=0,
    horizon_ms=1e9,
    drain_ms=1e9,
    max_requests=8,
)


def run(scenario: Scenario, window: int, seed: int = 0) -> Records:
    return simulate(scenario, make_controller(f"static:{window}", scenario.max_window), seed)


def tpot_ms(records: Records) -> float:
    waits = [(r.finish_ms - r.first_token_ms) / (r.output_tokens - 1) for r in records.requests]  # type: ignore[operator]
    return float(np.mean(waits))


@pytest.mark.parametrize(("acceptance", "window"), [(0.5, 1), (0.7, 5), (0.85, 3), (0.9, 12), (0.0, 4), (1.0, 6)])
def test_zero_load_tpot_and_tokens_per_round_match_closed_forms(acceptance: float, window: int) -> None:
    tokens = expected_tokens(acceptance, window)
    scenario = replace(QUIET, acceptance=Acceptance("constant", acceptance), max_requests=round(6 * tokens))
    records = run(scenario, window)
    # 6000 rounds: standard error below 1 %, and a request's last round is cut short by its end.
    assert np.mean([round.committed for round in records.rounds]) == pytest.approx(tokens, rel=0.03)
    assert tpot_ms(records) == pytest.approx(zero_load_tpot_ms(acceptance, window, 10.0, 40.0, 50.0), rel=0.03)


def test_every_zero_load_round_takes_drafting_the_round_trip_and_one_pass() -> None:
    records = run(QUIET, 5)
    row = target_row(TARGET)
    for round in records.rounds:
        cost_ms = 5 * 10 + 40 + row.iteration_ms(6, 1, 0) + TARGET.host_ms
        assert cost_ms <= round.elapsed_ms <= cost_ms + row.attention_context_ms * 1100 + 1e-3  # and 20 bytes
        assert round.externality_ms == 0.0


def test_zero_load_cloud_decoding_streams_past_the_network() -> None:
    assert tpot_ms(run(QUIET, 0)) == pytest.approx(50.0 + 40.0 / 1000, rel=0.005)


@pytest.mark.parametrize("figure", ["rtt", "draft", "acceptance"])
def test_zero_load_latency_is_monotone(figure: str) -> None:
    def scenario(step: int) -> Scenario:
        if figure == "rtt":
            return replace(QUIET, link=replace(QUIET.link, rtt_ms=20.0 * step))
        if figure == "draft":
            return replace(QUIET, edges=(replace(QUIET.edges[0], draft_ms_per_token=2.0 + 4 * step),))
        return replace(QUIET, acceptance=Acceptance("constant", 0.9 - 0.15 * step))

    for window in (1, 4, 8):
        latencies = [tpot_ms(run(replace(scenario(step), max_requests=2), window)) for step in range(5)]
        assert latencies == sorted(set(latencies))


@pytest.mark.parametrize(("acceptance", "published_ms"), [(0.7, 47), (0.85, 108)])
def test_cloud_mode_wins_above_the_break_even_rtt_and_loses_below(acceptance: float, published_ms: float) -> None:
    break_even_ms = break_even_rtt_ms(acceptance, 5, 10.0, 50.0)
    assert break_even_ms == pytest.approx(published_ms, abs=0.5)  # arXiv 2606.25091
    for factor, cloud_wins in ((0.7, False), (1.3, True)):
        link = replace(QUIET.link, rtt_ms=factor * break_even_ms)
        scenario = replace(QUIET, link=link, acceptance=Acceptance("constant", acceptance), max_requests=3)
        assert (tpot_ms(run(scenario, 0)) < tpot_ms(run(scenario, 5))) is cloud_wins


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_queue_wait_is_that_of_an_m_d_1_queue(load: float) -> None:
    """One-token outputs, one prompt an iteration: Poisson jobs of one constant length, first come, first served."""
    target = replace(TARGET, max_sequences=1, host_ms=0.0)
    row = target_row(target)
    service_ms = row.iteration_ms(64, 0, 0) + row.prefill_fixed_ms
    service_ms += row.prefill_token_ms * 64 + row.prefill_pair_ms * 64 * 64
    scenario = replace(
        QUIET,
        link=replace(QUIET.link, rtt_ms=0.0),
        targets=(replace(target, max_queue=10_000),),
        workload=Workload(kind="poisson", rate_per_s=load * 1000.0 / service_ms),
        lengths=Lengths(64, 64, 1, 1),
        messages=Messages(0, 0, committed_token_bytes=0),
        max_requests=4000,
    )
    ttft_ms = [r.first_token_ms - r.arrival_ms for seed in (1, 2, 3) for r in run(scenario, 0, seed).requests]  # type: ignore[operator]
    assert min(ttft_ms) == pytest.approx(service_ms)
    # 12 000 dependent waits: standard error below 4 %.
    expected_ms = load * service_ms / (2.0 * (1.0 - load))
    assert np.mean(ttft_ms) - service_ms == pytest.approx(expected_ms, rel=0.1)


def test_draft_mode_in_the_cloud_commits_more_a_pass() -> None:
    plain = run(QUIET, 0)
    drafting = run(replace(QUIET, cloud=Cloud("draft", draft_window=3)), 0)
    verified = sum(r.output_tokens - 1 for r in drafting.requests)
    passes = sum(target.iterations for target in drafting.targets) - 8  # less one prefill a request
    assert verified / passes == pytest.approx(expected_tokens(0.7, 3), rel=0.03)
    assert tpot_ms(drafting) < tpot_ms(plain)
