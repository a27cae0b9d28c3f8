"""The machines: edge devices and target replicas, by class."""

from __future__ import annotations

from dataclasses import dataclass

from dsd_gym.config import Count, NonNegative, Positive
from dsd_gym.scenario.links import LinkSpec


@dataclass(frozen=True)
class EdgeClass:
    """`count` alike devices. `hardware` names a row of configs/hardware.yaml; the two ms override its figures."""

    hardware: str = "l40s/Llama-3.2-1B"
    count: Count = 32
    draft_ms_per_token: Positive | None = None
    prefill_ms_per_token: NonNegative | None = None
    link: LinkSpec | None = None
    """This class's link where it is not the scenario's."""


@dataclass(frozen=True)
class TargetClass:
    """`count` alike replicas of a target; device, model and tensor_parallel name a row of configs/hardware.yaml."""

    device: str = "a100"
    model: str = "Llama-2-70b"
    tensor_parallel: Count = 4
    count: Count = 1
    max_sequences: Count = 256
    """Sequences in one iteration."""
    max_batch_tokens: Count = 2048
    """Tokens in one iteration: windows and decoding first, prefill chunks in what is left."""
    kv_tokens: Count | None = None
    """KV memory in tokens; None takes what the hardware leaves beside the weights."""
    max_queue: Count = 512
    """Requests that may wait for their prefill to begin; more are rejected."""
    host_ms: NonNegative = 0.0
    """Host and scheduler time added to each iteration."""
