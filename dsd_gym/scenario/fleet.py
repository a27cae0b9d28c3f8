"""The machines: edge devices and target replicas, by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsd_gym.config import Count, Crowd, NonNegative, Positive
from dsd_gym.scenario.links import LinkSpec
from dsd_gym.scenario.speculation import Acceptance


@dataclass(frozen=True)
class EdgeClass:
    """`count` alike devices. `hardware` names a row of configs/hardware.yaml; the two ms override its figures."""

    hardware: str = "l40s/Llama-3.2-1B"
    count: Crowd = 32
    draft_ms_per_token: Positive | None = None
    prefill_ms_per_token: NonNegative | None = None
    link: LinkSpec | None = None
    """This class's link where it is not the scenario's."""
    name: str = ""
    """What `pairs` call it."""
    site: str = ""
    """Where its devices are: those of one site may share its access link (`link.queueing`); "" is a site of its own."""
    targets: tuple[str, ...] | None = None
    """Names of the target classes that it may use; None: all."""


@dataclass(frozen=True)
class TargetClass:
    """`count` alike replicas of a target; device, model and tensor_parallel name a row of configs/hardware.yaml."""

    device: str = "a100"
    model: str = "Llama-2-70b"
    tensor_parallel: Count = 4
    count: Crowd = 1
    max_sequences: Count = 256
    """Sequences in one iteration."""
    max_batch_tokens: Count = 2048
    """Tokens in one iteration: windows and decoding first, prefill chunks in what is left."""
    kv_tokens: Count | None = None
    """KV memory in tokens; None takes what the hardware leaves beside the weights."""
    max_queue: Count = 512
    """Requests that may wait for KV memory, which is given between iterations; more are rejected."""
    host_ms: NonNegative = 0.0
    """Host and scheduler time added to each iteration."""
    latency_model: Literal["smooth", "staircase"] = "smooth"
    """What a pass takes by its tokens: the fit of configs/hardware.yaml, or the steps of configs/staircase.yaml."""
    order: Literal["fifo", "priority", "length_aware", "edf"] = "fifo"
    """Who goes first among windows, among prompts, and in cloud decoding where not all fit."""
    padded: bool = False
    """A pass computes all its windows as if they were as long as its longest (kernels without ragged batches)."""
    batch_wait_ms: NonNegative = 0.0
    """How long an idle target that gets work waits for more; a full pass starts at once."""
    chunked_prefill: bool = True
    """False: passes of whole prompts alone, before windows and decoding, whatever their length."""
    prefill_chunk_tokens: Count | None = None
    """Prompt tokens in one iteration at most, where less than the windows and decoding leave."""
    memory: Literal["reserve", "preempt"] = "reserve"
    """KV memory for a request's whole life when its prefill begins, or as it grows, until an earlier one needs it."""
    name: str = ""
    """What `pairs` and the edges' `targets` call it: a tier, a region."""
    region_rtt_ms: NonNegative = 0.0
    """Round trip from the devices' access network to this class's region, on top of their link's."""

    def __post_init__(self) -> None:
        if self.prefill_chunk_tokens and not self.chunked_prefill:
            raise ValueError("prefill_chunk_tokens is for chunked_prefill: whole prompts cannot be cut")


@dataclass(frozen=True)
class Pair:
    """How the drafts of one edge class fare with the targets of one target class, both called by name."""

    edge: str
    target: str
    acceptance: Acceptance
