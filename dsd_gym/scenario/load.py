"""Who asks, when, how much, and what they are promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from dsd_gym.config import Count, Crowd, NonNegative, Positive, Probability
from dsd_gym.scenario.speculation import Acceptance


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
    users: Crowd | None = None
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
class Slo:
    """Limits that a request must meet, both, to count as goodput."""

    ttft_ms: Positive = 2000.0
    tpot_ms: Positive = 80.0


@dataclass(frozen=True)
class RequestClass:
    """A kind of request. `share` is its weight among the classes; None takes what the scenario says."""

    name: str
    share: Positive = 1.0
    priority: int = 0
    """Smaller goes first, at a target whose order looks at it."""
    slo: Slo | None = None
    lengths: Lengths | None = None
    acceptance: Acceptance | None = None
    """A pair of an edge class and a target class that has its own acceptance keeps it."""


@dataclass(frozen=True)
class Admission:
    """What a target does with a prompt whose promises it foresees to break.

    none: takes it. reject: turns it away at once if the first token would be late. degrade: lets the cloud decode the
    whole request if the first token would be late, or the tokens of windows slower than promised.
    """

    rule: Literal["none", "reject", "degrade"] = "none"
    margin: Positive = 1.0
    """Of the promised ms: with less than 1 a target is stricter than its forecast."""
