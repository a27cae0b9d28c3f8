"""What happened: the decision, one round, one request. Written by the simulator and by the runtime, read by metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Decision(NamedTuple):
    """A controller's answer: draft `window` tokens at the edge; 0 lets the cloud decode."""

    window: int
    stop_threshold: float | None = None


class Round(NamedTuple):
    """One decision and what came of it. A round begins where the one before it ended, so rounds tile a request's life.

    A cloud chunk is a round with `window` 0. A return from cloud mode commits `cloud_tokens` (decoded before the
    stop arrived) besides what its window won.
    """

    stream: int
    start_ms: float
    """When the previous round's tokens were received; the first guess is drafted between here and `decided_ms`."""
    decided_ms: float
    end_ms: float
    """When this round's tokens were received at the edge."""
    window: int
    drafted: int
    accepted: int
    cloud_tokens: int
    committed: int
    rtt_ms: float
    """Last round trip measured, without transmission; in cloud mode a ping goes with each chunk."""
    queue_wait_ms: float
    iteration_ms: float
    batch_size: int
    externality_ms: float
    """Delay put on other requests: ms this request's tokens added to its iterations x others in batch or waiting."""
    uplink_bytes: float
    downlink_bytes: float

    def __deepcopy__(self, memo: object) -> Round:
        """Return itself: it cannot change (vector environments copy every `info` deeply)."""
        return self

    @property
    def elapsed_ms(self) -> float:
        """Return the ms of the request's life that this round took."""
        return self.end_ms - self.start_ms


class Status(StrEnum):
    """How a request stood when the run ended."""

    FINISHED = "finished"
    IN_FLIGHT = "in_flight"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. Times are absolute simulated ms; None where it never happened."""

    stream: int
    device: int
    device_class: int
    target: int
    arrival_ms: float
    prompt_tokens: int
    output_tokens: int
    committed_tokens: int
    first_token_ms: float | None
    finish_ms: float | None
    status: Status
    request_class: int = 0
    degraded: bool = False
    """Left to the cloud by admission, whatever the controller would have said."""

    def __deepcopy__(self, memo: object) -> RequestRecord:
        """Return itself, as `Round` does."""
        return self


class TargetRecord(NamedTuple):
    """One target's work inside the measured interval."""

    busy_ms: float
    iterations: int
    tokens: int
    preemptions: int = 0
    """Requests that lost their KV memory and were prefilled again."""


class ClassRecord(NamedTuple):
    """A request class and what its requests were promised."""

    name: str
    slo_ttft_ms: float
    slo_tpot_ms: float


@dataclass(frozen=True)
class Records:
    """All that one run left behind; metrics need nothing else."""

    scenario: str
    seed: int
    start_ms: float
    """The measured interval opens here (warm-up over): requests that arrive in [start_ms, end_ms) are scored."""
    end_ms: float
    cap_ms: float
    """The end-to-end ms charged to a request that was rejected or had not finished when the run ended."""
    stopped_ms: float
    slo_ttft_ms: float
    slo_tpot_ms: float
    requests: list[RequestRecord] = field(default_factory=list)
    rounds: Sequence[Round] = field(default_factory=list)
    targets: list[TargetRecord] = field(default_factory=list)
    classes: tuple[ClassRecord, ...] = ()
    """Request classes by number; none: all requests have the limits above."""

    def class_of(self, request: RequestRecord) -> ClassRecord:
        """Return the class of a request, with the limits that it is judged by."""
        if self.classes:
            return self.classes[request.request_class]
        return ClassRecord("", self.slo_ttft_ms, self.slo_tpot_ms)
