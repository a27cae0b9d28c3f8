"""A whole scenario. YAML holds differences from these defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from dsd_gym.config import Count, NonNegative, Positive
from dsd_gym.observation import MAX_WINDOW
from dsd_gym.scenario.fleet import EdgeClass, Pair, TargetClass
from dsd_gym.scenario.links import LinkSpec
from dsd_gym.scenario.load import Admission, Lengths, RequestClass, Slo, Workload
from dsd_gym.scenario.names import check_names, reachable_tiers
from dsd_gym.scenario.speculation import Acceptance, Cloud, Messages


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
    pairs: tuple[Pair, ...] = ()
    """Edge and target classes whose acceptance is not the scenario's."""
    router: Literal[
        "random",
        "round_robin",
        "jsq",
        "jsq2",
        "jsq_reported",
        "weighted",
        "weighted_jsq2",
        "jiq",
        "semi_clairvoyant",
        "global",
    ] = "jsq"
    router_report_ms: NonNegative = 100.0
    """How often targets report their load to a router that reads reports; 0: whenever it looks."""
    admission: Admission = Admission()
    workload: Workload = Workload(rate_per_s=2.0)
    lengths: Lengths = Lengths()
    acceptance: Acceptance = Acceptance()
    cloud: Cloud = Cloud()
    draft_ahead: bool = False
    """While a window is away, the edge drafts on as if all of it were accepted."""
    messages: Messages = Messages()
    slo: Slo = Slo()
    classes: tuple[RequestClass, ...] = ()
    """Kinds of requests, drawn by their shares; none: all alike."""
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
        check_names(self)
        longest = max(self.max_window, self.cloud.draft_window if self.cloud.mode == "draft" else 0)
        if any(target.max_batch_tokens <= longest for target in self.targets):
            raise ValueError(f"targets.max_batch_tokens must hold a window and one token: more than {longest}")
        if self.warm_up_ms >= self.horizon_ms:
            raise ValueError(f"warm_up_ms ({self.warm_up_ms:g}) must be less than horizon_ms ({self.horizon_ms:g})")

    @property
    def reachable(self) -> tuple[tuple[int, ...], ...]:
        """Return for each edge class the indices of the target classes that it may use."""
        return reachable_tiers(self)
