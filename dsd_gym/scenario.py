"""What is simulated: one frozen dataclass for each noun of a deployment. YAML holds differences from these defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from dsd_gym.config import Count, NonNegative, Positive
from dsd_gym.observation import MAX_WINDOW

Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Regime:
    """A state of a moving device's link, held for an exponential time; then another is drawn, all equally likely."""

    name: str
    dwell_ms: Positive
    rtt_factor: Positive = 1.0
    bandwidth_factor: Positive = 1.0
    outage: bool = False
    """Nothing passes: a message sent now leaves when the regime ends."""


@dataclass(frozen=True)
class LinkSpec:
    """A device's path to the cloud. Round trip = `rtt_ms` x regime + jitter, half of it each way."""

    rtt_ms: NonNegative = 20.0
    jitter_ms: NonNegative = 2.0
    """Mean of an exponential addition to the round trip, drawn anew every `jitter_slot_ms` of wall-clock."""
    jitter_slot_ms: Positive = 50.0
    up_mbps: Positive = 50.0
    """10^6 bits a second from the device; a regime's `bandwidth_factor` multiplies it."""
    down_mbps: Positive = 100.0
    regimes: tuple[Regime, ...] = ()

    def __post_init__(self) -> None:
        if self.regimes and all(regime.outage for regime in self.regimes):
            raise ValueError("regimes must not all be outages")


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


@dataclass(frozen=True)
class Piece:
    """A stretch of piecewise load: `factor` times the workload's rate for `duration_ms`; the pieces repeat."""

    duration_ms: Positive
    factor: NonNegative


@dataclass(frozen=True)
class Lengths:
    """Log-normal prompt and output lengths, given by mean and median (equal: constant), clipped."""

    prompt_mean: Positive = 256.0
    prompt_median: Positive = 200.0
    output_mean: Positive = 128.0
    output_median: Positive = 100.0
    max_prompt: Count = 8192
    """Longer prompts and outputs, drawn or recorded, are cut to these."""
    max_output: Count = 1024

    def __post_init__(self) -> None:
        if self.prompt_median > self.prompt_mean or self.output_median > self.output_mean:
            raise ValueError("a log-normal median cannot exceed its mean")


@dataclass(frozen=True)
class Workload:
    """Who asks, and when.

    poisson: `rate_per_s` or `load`. bursty: the same with hyperexponential inter-arrivals of `burst_cv`. piecewise:
    the rate times `pieces`. diurnal: the rate times 1 + `swing` sin(2 pi t / `period_ms`). closed: `users` with
    exponential `think_ms` between requests. trace: arrivals and lengths of a file.
    """

    kind: Literal["poisson", "bursty", "piecewise", "diurnal", "closed", "trace"] = "poisson"
    rate_per_s: Positive | None = None
    load: Positive | None = None
    """Instead of a rate: a fraction of what the targets carry by decoding alone (`reference.saturation_rate`)."""
    burst_cv: Annotated[float, Field(ge=1)] = 3.0
    """Coefficient of variation of inter-arrival times."""
    pieces: tuple[Piece, ...] = ()
    swing: Probability = 0.5
    period_ms: Positive = 30_000.0
    users: Count | None = None
    think_ms: NonNegative = 0.0
    trace: str | None = None
    trace_format: Literal["azure", "dsdsim", "mooncake"] | None = None
    """None tells it from the file."""
    trace_start_ms: NonNegative = 0.0
    """Where in the trace a run begins."""
    rate_scale: Positive = 1.0
    """Replay speed of a trace: 2 halves every inter-arrival time."""

    def __post_init__(self) -> None:
        open_loop = self.kind in ("poisson", "bursty", "piecewise", "diurnal")
        if open_loop and (self.rate_per_s is None) == (self.load is None):
            raise ValueError(f"{self.kind} needs exactly one of rate_per_s and load")
        needs = {"closed": "users", "trace": "trace", "piecewise": "pieces"}.get(self.kind)
        if needs and not getattr(self, needs):
            raise ValueError(f"{self.kind} needs {needs}")
        if self.pieces and not any(piece.factor for piece in self.pieces):
            raise ValueError("pieces must not all have factor 0")


@dataclass(frozen=True)
class Acceptance:
    """How well drafts are guessed: a measured profile, or one constant probability for every position."""

    profile: Literal["maths", "summaries", "code", "chat", "constant"] = "chat"
    probability: Probability | None = None
    sampling: Literal["greedy", "temperature_1"] = "greedy"
    """Of the measured profiles; a constant probability is what it says."""

    def __post_init__(self) -> None:
        if (self.profile == "constant") != (self.probability is not None):
            raise ValueError("probability is for profile 'constant', which needs it")


@dataclass(frozen=True)
class Cloud:
    """What window 0 means: the target decodes alone (`plain`) or with a co-located draft of `draft_window` tokens."""

    mode: Literal["plain", "draft"] = "plain"
    chunk_tokens: Count = 8
    """Received tokens after which the controller is asked again."""
    draft_model: str = "Llama-3.2-1B"
    draft_window: Count = 3


@dataclass(frozen=True)
class Messages:
    """Bytes on the wire."""

    prompt_token_bytes: NonNegative = 4.0
    header_bytes: NonNegative = 100.0
    payload: Literal["ids", "distribution"] = "ids"
    """What a drafted token costs on the uplink: its id, or its id and the `top_k` most likely with probabilities."""
    top_k: Count = 32
    committed_token_bytes: NonNegative = 4.0

    @property
    def draft_token_bytes(self) -> float:
        """Return the uplink bytes of one drafted token: a 4-byte id, and 4 + 2 bytes for each listed probability."""
        return 4.0 if self.payload == "ids" else 4.0 + 6.0 * self.top_k


@dataclass(frozen=True)
class Slo:
    """Limits that a request must meet, both, to count as goodput."""

    ttft_ms: Positive = 2000.0
    tpot_ms: Positive = 80.0


@dataclass(frozen=True)
class Scenario:
    """A deployment and its load."""

    name: str = "unnamed"
    description: str = ""
    score: Literal["latency", "throughput"] = "latency"
    """`throughput`: an overload, left out of latency means."""
    edges: tuple[EdgeClass, ...] = (EdgeClass(),)
    link: LinkSpec = LinkSpec()
    targets: tuple[TargetClass, ...] = (TargetClass(),)
    router: Literal["random", "round_robin", "jsq", "jsq2", "weighted"] = "jsq"
    workload: Workload = Workload(rate_per_s=2.0)
    lengths: Lengths = Lengths()
    acceptance: Acceptance = Acceptance()
    cloud: Cloud = Cloud()
    messages: Messages = Messages()
    slo: Slo = Slo()
    max_window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 12
    seed: int = 0
    """For `simulate` without a seed of its own; comparisons and training bring theirs."""
    warm_up_ms: NonNegative = 5_000.0
    horizon_ms: Positive = 30_000.0
    """Requests arrive until here; those after the warm-up are scored."""
    drain_ms: NonNegative = 60_000.0
    """How long after the horizon unfinished requests are followed."""
    max_requests: Count | None = None

    def __post_init__(self) -> None:
        if not self.edges or not self.targets:
            raise ValueError("a scenario needs at least one entry in edges and in targets")
        longest = max(self.max_window, self.cloud.draft_window if self.cloud.mode == "draft" else 0)
        if any(target.max_batch_tokens <= longest for target in self.targets):
            raise ValueError(f"targets.max_batch_tokens must hold a window and one token: more than {longest}")
        if self.warm_up_ms >= self.horizon_ms:
            raise ValueError(f"warm_up_ms ({self.warm_up_ms:g}) must be less than horizon_ms ({self.horizon_ms:g})")
