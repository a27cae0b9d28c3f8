"""A scenario's own yardsticks, in closed form: hardware rows, acceptance, zero-load ms a token, saturation rate."""

from __future__ import annotations

from typing import NamedTuple

from dsd_gym.acceptance import PROFILES, AcceptanceProfile, constant_profile, with_sampling
from dsd_gym.config import ConfigError
from dsd_gym.hardware import TargetHardware, edge_hardware, target_hardware
from dsd_gym.scenario import EdgeClass, Scenario, TargetClass
from dsd_gym.theory import zero_load_tpot_ms


class Device(NamedTuple):
    """The figures of an edge class, its overrides applied."""

    draft_ms_per_token: float
    prefill_ms_per_token: float


def device_figures(edge: EdgeClass) -> Device:
    """Return ms a drafted token and ms a token read, from the hardware table or the class's own figures."""
    row = edge_hardware(edge.hardware)
    draft_ms = row.draft_ms_per_token if edge.draft_ms_per_token is None else edge.draft_ms_per_token
    read_ms = row.prefill_ms_per_token if edge.prefill_ms_per_token is None else edge.prefill_ms_per_token
    return Device(draft_ms, read_ms)


def target_row(target: TargetClass) -> TargetHardware:
    """Return the hardware row of a target class."""
    return target_hardware(target.device, target.model, target.tensor_parallel)


def draft_row(scenario: Scenario, target: TargetClass) -> TargetHardware:
    """Return the row of the draft that is co-located with `target`: one device of the same kind."""
    return target_hardware(target.device, scenario.cloud.draft_model, 1)


def acceptance_profile(scenario: Scenario) -> AcceptanceProfile:
    """Return the acceptance process that the scenario names."""
    spec = scenario.acceptance
    if spec.probability is not None:
        return constant_profile(spec.probability)
    return with_sampling(PROFILES[spec.profile], spec.sampling)


def check_hardware(scenario: Scenario, source: str) -> None:
    """Raise ConfigError, with the file and key, for a hardware name that the table lacks."""
    key = ""
    try:
        for index, edge in enumerate(scenario.edges):
            key = f"edges.{index}"
            device_figures(edge)
        for index, target in enumerate(scenario.targets):
            key = f"targets.{index}"
            target_row(target)
            if scenario.cloud.mode == "draft":
                draft_row(scenario, target)
    except ConfigError as error:
        raise ConfigError(f"{source}: {key}: {error}") from None


def reference_ms(scenario: Scenario) -> float:
    """Return the zero-load ms a token of the best single mode (cloud, or one window), averaged over edge devices.

    Rewards are divided by it, so that slow deployments do not drown fast ones.
    """
    acceptance = acceptance_profile(scenario).mean_acceptance
    verify_ms = min(target_row(t).one_token_iteration_ms + t.host_ms for t in scenario.targets)
    total = 0.0
    for edge in scenario.edges:
        link = edge.link or scenario.link
        draft_ms = device_figures(edge).draft_ms_per_token
        best = min(
            zero_load_tpot_ms(acceptance, window, draft_ms, link.rtt_ms + link.jitter_ms, verify_ms)
            for window in range(scenario.max_window + 1)
        )
        total += edge.count * best
    return total / sum(edge.count for edge in scenario.edges)


def saturation_rate(scenario: Scenario, output_tokens: float, prompt_tokens: float) -> float:
    """Return the requests/s that the targets carry by plain cloud decoding with full batches.

    A request takes its prompt's tokens at the compute-bound slope and, at the largest batch that memory and
    `max_sequences` allow, a share of one iteration for each output token.
    """
    total = 0.0
    for target in scenario.targets:
        row = target_row(target)
        context = prompt_tokens + output_tokens / 2.0
        kv_tokens = target.kv_tokens or row.kv_capacity_tokens
        batch = max(1, min(target.max_sequences, int(kv_tokens / (prompt_tokens + output_tokens))))
        decode_ms = (row.iteration_ms(batch, batch, int(batch * context)) + target.host_ms) / batch
        prefill_ms = row.token_ms + row.compute_ms + row.prefill_token_ms + row.prefill_pair_ms * prompt_tokens
        total += target.count * 1000.0 / (prompt_tokens * prefill_ms + output_tokens * decode_ms)
    return total
