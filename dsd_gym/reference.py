"""A scenario's own yardsticks, in closed form: hardware rows, acceptance, zero-load ms a token, saturation rate."""

from __future__ import annotations

import math
from typing import NamedTuple

from dsd_gym.acceptance import PROFILES, AcceptanceProcess, constant_profile, with_sampling
from dsd_gym.config import ConfigError
from dsd_gym.hardware import TargetHardware, edge_hardware, target_hardware
from dsd_gym.recorded import recorded_acceptance
from dsd_gym.records import ClassRecord
from dsd_gym.scenario import Acceptance, EdgeClass, Scenario, TargetClass
from dsd_gym.scenario.mix import acceptance_of, class_shares, class_slo
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


def acceptance_profile(spec: Acceptance) -> AcceptanceProcess:
    """Return the acceptance process that a scenario names."""
    if spec.file is not None:
        return recorded_acceptance(spec.file)
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

    Each device has the best of the targets that it reaches; what it meets there is averaged over request classes.
    Rewards are divided by the figure, so that slow deployments do not drown fast ones.
    """
    total = 0.0
    for index, edge in enumerate(scenario.edges):
        link = edge.link or scenario.link
        draft_ms = device_figures(edge).draft_ms_per_token
        best_ms = math.inf
        for tier in scenario.reachable[index]:
            target = scenario.targets[tier]
            acceptance = mean_acceptance(scenario, index, tier)
            verify_ms = target_row(target).one_token_iteration_ms + target.host_ms
            rtt_ms = link.rtt_ms + link.jitter_ms + target.region_rtt_ms
            for window in range(scenario.max_window + 1):
                best_ms = min(best_ms, zero_load_tpot_ms(acceptance, window, draft_ms, rtt_ms, verify_ms))
        total += edge.count * best_ms
    return total / sum(edge.count for edge in scenario.edges)


def mean_acceptance(scenario: Scenario, edge_class: int, tier: int) -> float:
    """Return the acceptance probability of an edge class's drafts at a target class, averaged over request classes."""
    shares: dict[Acceptance, float] = {}
    for request_class, share in enumerate(class_shares(scenario)):
        spec = acceptance_of(scenario, edge_class, tier, request_class)
        shares[spec] = shares.get(spec, 0.0) + share
    return sum(share * acceptance_profile(spec).mean_acceptance for spec, share in shares.items())


def class_records(scenario: Scenario) -> tuple[ClassRecord, ...]:
    """Return the request classes by number, with their limits."""
    promised = [class_slo(scenario, index) for index in range(len(scenario.classes))]
    return tuple(
        ClassRecord(kind.name, slo.ttft_ms, slo.tpot_ms) for kind, slo in zip(scenario.classes, promised, strict=True)
    )


def saturation_rate(scenario: Scenario, output_tokens: float, prompt_tokens: float) -> float:
    """Return the requests/s that the targets which anybody reaches carry by plain cloud decoding with full batches.

    A request takes its prompt's tokens at the compute-bound slope and, at the largest batch that memory and
    `max_sequences` allow, a share of one iteration for each output token.
    """
    total = 0.0
    for tier in sorted({tier for tiers in scenario.reachable for tier in tiers}):
        target = scenario.targets[tier]
        row = target_row(target)
        context = prompt_tokens + output_tokens / 2.0
        kv_tokens = target.kv_tokens or row.kv_capacity_tokens
        batch = max(1, min(target.max_sequences, int(kv_tokens / (prompt_tokens + output_tokens))))
        decode_ms = (row.iteration_ms(batch, batch, int(batch * context)) + target.host_ms) / batch
        prefill_ms = row.token_ms + row.compute_ms + row.prefill_token_ms + row.prefill_pair_ms * prompt_tokens
        total += target.count * 1000.0 / (prompt_tokens * prefill_ms + output_tokens * decode_ms)
    return total
