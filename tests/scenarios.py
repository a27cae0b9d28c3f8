"""Random deployments that combine all mechanisms, small enough to be simulated in a blink, and who decides."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agents import make_controller
from agents.base import Controller
from dsd_gym import luck
from dsd_gym.observation import Observation
from dsd_gym.recorded.recording import RecordedRequest, write_recording
from dsd_gym.records import Decision
from dsd_gym.routing import RULES
from dsd_gym.scenario import (
    Acceptance,
    Admission,
    Cloud,
    EdgeClass,
    Handover,
    Lengths,
    LinkSpec,
    Messages,
    Outage,
    Pair,
    Piece,
    Regime,
    RequestClass,
    Scenario,
    Slo,
    TargetClass,
    Workload,
)

ROOT = Path(__file__).resolve().parents[1]
BANDWIDTH = str(ROOT / "configs" / "traces" / "sample_bandwidth.csv")
REQUESTS = str(ROOT / "configs" / "traces" / "sample_azure.csv")
POLICY = str(ROOT / "policies" / "edge_cloud.safetensors")
REGIMES = (Regime("good", 300.0), Regime("bad", 100.0, 3.0, 0.2), Regime("stalled", 80.0, outage=True))
RULE_SPECS = (
    *("static:0", "static:1", "heuristic", "leviathan", "awc", "average-reward", "sglang", "specdec", "turbospec"),
    *("ucb", "table:vllm", "specdec:published", "oracle", POLICY),
)
MAX_REQUESTS = 14
FOREVER_MS = 1e7

_folder = tempfile.TemporaryDirectory()


def recording() -> str:
    """Return the path of a small recording of acceptance, with positions that nobody tested."""
    path = Path(_folder.name) / "recording.jsonl"
    if not path.exists():
        flags = [tuple(None if (i * j) % 5 == 4 else (i + j) % 3 > 0 for i in range(30)) for j in range(4)]
        chances = tuple(0.3 + i % 7 / 10 for i in range(30))
        write_recording(path, [RecordedRequest(row, chances) for row in flags], "made up")
    return str(path)


class RandomDecisions(Controller):
    """Any window and any threshold, keyed by how often who has been asked: the same in every run of a seed."""

    def __init__(self, seed: int, max_window: int) -> None:
        self._seed, self._max_window = seed, max_window
        self._asked: dict[int, int] = {}

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return a random decision: a third of them leave it to the cloud."""
        asked = self._asked[stream] = self._asked.get(stream, -1) + 1
        cloud, window, threshold = (luck.uniform(self._seed, 1000 + part, stream, asked) for part in range(3))
        if cloud < 0.33:
            return Decision(0)
        return Decision(1 + int(window * self._max_window), threshold if threshold < 0.5 else None)

    def forget(self, stream: int) -> None:
        """Drop the count."""
        self._asked.pop(stream, None)


@dataclass(frozen=True)
class Case:
    """A deployment, its luck, and who decides."""

    scenario: Scenario
    spec: str
    seed: int

    def controller(self) -> Controller:
        """Return a fresh controller."""
        if self.spec == "random":
            return RandomDecisions(self.seed, self.scenario.max_window)
        return make_controller(self.spec, self.scenario.max_window)  # type: ignore[return-value]


def _acceptance(profile: str, probability: float, sampling: Any) -> Acceptance:
    if profile == "constant":
        return Acceptance("constant", probability)
    return Acceptance("recorded", file=recording()) if profile == "recorded" else Acceptance(profile, sampling=sampling)  # type: ignore[arg-type]


ACCEPTANCES = st.builds(
    _acceptance,
    st.sampled_from(["constant", "constant", "chat", "code", "recorded"]),
    st.sampled_from([0.0, 0.7, 1.0]),
    st.sampled_from(["greedy", "temperature_1"]),
)
LINKS = st.builds(
    LinkSpec,
    rtt_ms=st.sampled_from([0.0, 5.0, 40.0]),
    jitter_ms=st.sampled_from([0.0, 3.0, 30.0]),
    up_mbps=st.sampled_from([0.2, 20.0]),
    down_mbps=st.sampled_from([0.5, 50.0]),
    regimes=st.sampled_from([(), REGIMES]),
    up_share=st.sampled_from([0.0, 0.5, 0.8]),
    queueing=st.sampled_from(["none", "device", "site"]),
    trace=st.sampled_from([None, None, BANDWIDTH]),
    trace_shift=st.booleans(),
    loss=st.sampled_from([0.0, 0.0, 0.1]),
    retransmit_ms=st.sampled_from([20.0, 200.0]),
    outages=st.sampled_from([(), (), (Outage(200.0, 150.0), Outage(300.0, 400.0))]),
    handover=st.sampled_from([None, None, Handover(400.0, 60.0, 2.0)]),
)
LENGTHS = st.sampled_from(
    [Lengths(40, 25, mean, 0.8 * mean, 90, longest) for mean, longest in ((20, 40), (30, 50), (8, 20), (1.5, 2))]
    + [Lengths(40, 40, 1, 1)]
)
SLOS = st.builds(Slo, st.sampled_from([150.0, 1000.0, 9000.0]), st.sampled_from([20.0, 60.0, 300.0]))
EDGES = st.builds(
    EdgeClass,
    st.sampled_from(["l40s/Qwen2.5-0.5B", "phone_fast/1B", "l40s/Llama-3.2-1B"]),
    st.integers(1, 3),
    draft_ms_per_token=st.sampled_from([None, 1.0, 25.0]),
    prefill_ms_per_token=st.sampled_from([None, 0.0, 2.0]),
    link=st.none() | LINKS,
    site=st.sampled_from(["", "home"]),
    targets=st.sampled_from([None, ("s",), ("l",), ("l", "s")]),
)


def _target(hardware: tuple[str, str, int], chunk: int | None, **options: Any) -> TargetClass:
    return TargetClass(*hardware, chunked_prefill=chunk != 0, prefill_chunk_tokens=chunk or None, **options)


TARGETS = st.builds(
    _target,
    st.sampled_from([("h100", "Llama-3.1-8B", 1), ("a100", "Llama-2-70b", 4)]),
    st.sampled_from([None, 0, 7, 30]),
    count=st.integers(1, 3),
    max_sequences=st.sampled_from([1, 2, 4, 256]),
    max_batch_tokens=st.sampled_from([18, 40, 2048]),
    kv_tokens=st.sampled_from([None, 110, 130, 200]),
    max_queue=st.sampled_from([2, 512, 512]),
    host_ms=st.sampled_from([0.0, 4.0]),
    latency_model=st.sampled_from(["smooth", "staircase"]),
    order=st.sampled_from(["fifo", "priority", "length_aware", "edf"]),
    padded=st.booleans(),
    batch_wait_ms=st.sampled_from([0.0, 0.0, 6.0]),
    memory=st.sampled_from(["reserve", "preempt"]),
    region_rtt_ms=st.sampled_from([0.0, 25.0]),
)


def _workload(kind: Any, rate: float, users: int, think_ms: float) -> Workload:
    options: dict[str, dict[str, Any]] = {
        "poisson": {"rate_per_s": rate},
        "bursty": {"rate_per_s": rate},
        "piecewise": {"rate_per_s": rate, "pieces": (Piece(200.0, 1.5), Piece(100.0, 0.0))},
        "diurnal": {"rate_per_s": rate, "swing": 1.0, "period_ms": 400.0},
        "closed": {"users": users, "think_ms": think_ms},
        "trace": {"trace": REQUESTS, "trace_start_ms": 500.0, "rate_scale": rate / 10.0},
    }
    return Workload(kind, **options[kind])


WORKLOADS = st.builds(
    _workload,
    st.sampled_from(["poisson", "bursty", "piecewise", "diurnal", "closed", "closed", "trace"]),
    st.sampled_from([4.0, 30.0, 300.0]),
    st.integers(1, 9),
    st.sampled_from([0.0, 30.0]),
)
CLASSES = st.lists(
    st.builds(
        RequestClass,
        st.just("kind"),
        st.floats(0.1, 5),
        st.integers(-1, 2),
        st.none() | SLOS,
        st.none() | LENGTHS,
        st.none() | ACCEPTANCES,
    ),
    max_size=3,
)


def _scenario(
    edges: list[EdgeClass],
    targets: list[TargetClass],
    classes: list[RequestClass],
    paired: list[Acceptance],
    chunk_tokens: int,
    cloud_mode: Any,
    workload: Workload,
    **options: Any,
) -> Scenario:
    """Return a deployment whose classes have names, and whose names fit."""
    targets = [replace(target, name=name) for target, name in zip(targets, "sl", strict=False)]
    names = {target.name for target in targets}
    edges = [
        replace(edge, name=name, targets=edge.targets if names.issuperset(edge.targets or ()) else None)
        for edge, name in zip(edges, "abc", strict=False)
    ]
    traced = workload.kind == "trace"
    return Scenario(
        name="random",
        edges=tuple(edges),
        targets=tuple(targets),
        pairs=tuple(Pair(edge.name, (edge.targets or "s")[0], a) for edge, a in zip(edges, paired, strict=False)),
        classes=tuple(
            replace(kind, name=f"kind{index}", lengths=None if traced else kind.lengths)
            for index, kind in enumerate(classes)
        ),
        workload=workload,
        cloud=Cloud(cloud_mode, chunk_tokens),
        max_requests=MAX_REQUESTS,
        **options,
    )


def scenarios(*drains_ms: float) -> st.SearchStrategy[Scenario]:
    """Return deployments; `drains_ms`: how long they are followed, in the end."""
    return st.builds(
        _scenario,
        st.lists(EDGES, min_size=1, max_size=3),
        st.lists(TARGETS, min_size=1, max_size=2),
        CLASSES,
        st.lists(ACCEPTANCES, max_size=2),
        st.sampled_from([1, 3, 8]),
        st.sampled_from(["plain", "draft"]),
        WORKLOADS,
        link=LINKS,
        router=st.sampled_from(sorted(RULES)),
        router_report_ms=st.sampled_from([0.0, 100.0]),
        admission=st.builds(
            Admission, st.sampled_from(["none", "none", "reject", "degrade"]), st.sampled_from([0.5, 2.0])
        ),
        lengths=LENGTHS,
        acceptance=ACCEPTANCES,
        draft_ahead=st.booleans(),
        messages=st.builds(
            Messages, header_bytes=st.sampled_from([0.0, 100.0]), payload=st.sampled_from(["ids", "distribution"])
        ),
        slo=SLOS,
        warm_up_ms=st.sampled_from([0.0, 300.0]),
        horizon_ms=st.sampled_from([500.0, 2000.0]),
        drain_ms=st.sampled_from(drains_ms or (0.0, 500.0, FOREVER_MS)),
    )


def cases(*drains_ms: float) -> st.SearchStrategy[Case]:
    """Return deployments with their luck and somebody who decides: half of the time at random."""
    specs = st.sampled_from(["random"] * len(RULE_SPECS) + list(RULE_SPECS))
    return st.builds(Case, scenarios(*drains_ms), specs, st.integers(0, 2**31))
