"""Random deployments that combine all mechanisms, small enough to be simulated in a blink, and who decides."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dice import Dice, RandomDecisions
from hypothesis import strategies as st

from agents import make_controller
from agents.base import Controller
from dsd_gym.recorded.recording import RecordedRequest, write_recording
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
POLICY_WINDOW = 12
REGIMES = (Regime("good", 300.0), Regime("bad", 100.0, 3.0, 0.2), Regime("stalled", 80.0, outage=True))
RULE_SPECS = (
    *("static:0", "static:1", "heuristic", "leviathan", "awc", "average-reward", "sglang", "specdec", "turbospec"),
    *("ucb", "table:vllm", "specdec:published", "oracle", POLICY),
)
MAX_REQUESTS = 20
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
        fits = self.spec != POLICY or self.scenario.max_window >= POLICY_WINDOW
        return make_controller(self.spec if fits else "awc", self.scenario.max_window)  # type: ignore[return-value]


def an_acceptance(dice: Dice) -> Acceptance:
    """Return how drafts fare: never, always, sometimes, as one of the profiles, or as recorded."""
    sampling = dice.pick("greedy", "temperature_1")
    return dice.pick(
        *(Acceptance("constant", probability) for probability in (0.0, 0.7, 0.7, 1.0)),
        *(Acceptance(profile, sampling=sampling) for profile in ("chat", "code")),  # type: ignore[arg-type]
        *(Acceptance("recorded", file=recording()),),
    )


def a_link(dice: Dice) -> LinkSpec:
    """Return a link of any kind."""
    pick = dice.pick
    return LinkSpec(
        rtt_ms=pick(0.0, 5.0, 40.0),
        jitter_ms=pick(0.0, 3.0, 30.0),
        up_mbps=pick(0.2, 20.0),
        down_mbps=pick(0.5, 50.0),
        regimes=pick((), REGIMES),
        up_share=pick(0.0, 0.5, 0.8),
        queueing=pick("none", "device", "site"),
        trace=pick(None, None, BANDWIDTH),
        trace_shift=pick(True, False),
        loss=pick(0.0, 0.0, 0.1),
        retransmit_ms=pick(20.0, 200.0),
        outages=pick((), (), (Outage(200.0, 150.0), Outage(300.0, 400.0))),
        handover=pick(None, None, Handover(400.0, 60.0, 2.0)),
    )


def some_lengths(dice: Dice) -> Lengths:
    """Return short prompts and outputs, of one token too."""
    mean, longest = dice.pick((20, 40), (30, 50), (15, 30), (2, 4), (1, 1))
    return Lengths(40, 25, mean, max(1.0, 0.8 * mean), 90, longest)


def an_slo(dice: Dice) -> Slo:
    """Return promises, some of which cannot be kept."""
    return Slo(dice.pick(150.0, 1000.0, 9000.0), dice.pick(20.0, 60.0, 300.0))


def an_edge(dice: Dice) -> EdgeClass:
    """Return a class of one to three devices: of a site or not, maybe with a link and few targets of its own."""
    pick = dice.pick
    return EdgeClass(
        pick("l40s/Qwen2.5-0.5B", "phone_fast/1B", "l40s/Llama-3.2-1B"),
        pick(1, 1, 3),
        draft_ms_per_token=pick(None, 1.0, 25.0),
        prefill_ms_per_token=pick(None, 0.0, 2.0),
        link=pick(None, a_link(dice)),
        site=pick("", "home"),
        targets=pick(None, ("s",), ("l",), ("l", "s")),
    )


def a_target(dice: Dice) -> TargetClass:
    """Return a class of targets with any limits, order and memory; some refuse the longest requests."""
    pick, chunk = dice.pick, dice.pick(None, None, 0, 7, 30)
    return TargetClass(
        *pick(("h100", "Llama-3.1-8B", 1), ("a100", "Llama-2-70b", 4)),
        count=pick(1, 1, 2),
        max_sequences=pick(1, 3, 8, 256),
        max_batch_tokens=pick(18, 40, 100, 2048),
        kv_tokens=pick(None, None, 110, 300),
        max_queue=pick(3, 512, 512),
        host_ms=pick(0.0, 4.0),
        latency_model=pick("smooth", "staircase"),
        order=pick("fifo", "priority", "length_aware", "edf"),
        padded=pick(True, False),
        batch_wait_ms=pick(0.0, 0.0, 6.0),
        chunked_prefill=chunk != 0,
        prefill_chunk_tokens=chunk or None,
        memory=pick("reserve", "preempt"),
        region_rtt_ms=pick(0.0, 25.0),
    )


def a_workload(dice: Dice, crowded: bool) -> Workload:
    """Return open or closed load, from next to nothing to a crowd at the door."""
    rate = 400.0 if crowded else dice.pick(20.0, 100.0, 400.0)
    users, think_ms = 12 if crowded else dice.pick(1, 5, 12), dice.pick(0.0, 30.0)
    return dice.pick(
        Workload("poisson", rate),
        Workload("bursty", rate),
        Workload("piecewise", rate, pieces=(Piece(200.0, 1.5), Piece(100.0, 0.0))),
        Workload("diurnal", load=dice.pick(0.3, 3.0), swing=1.0, period_ms=400.0),
        Workload("closed", users=users, think_ms=think_ms),
        Workload("closed", users=users, think_ms=think_ms),
        Workload("trace", trace=REQUESTS, trace_start_ms=500.0, rate_scale=rate / 10.0),
    )


def a_class(dice: Dice) -> RequestClass:
    """Return a kind of request that says anything or nothing of its own."""
    own = dice.pick(None, an_slo(dice)), dice.pick(None, some_lengths(dice)), dice.pick(None, an_acceptance(dice))
    return RequestClass("kind", dice.pick(0.3, 1.0, 4.0), dice.pick(-1, 0, 2), *own)


def a_fleet(dice: Dice, crowded: bool) -> dict[str, Any]:
    """Return edges, targets and pairs whose names fit; `crowded`: all come to one target."""
    targets = [replace(a_target(dice), name=name) for name in "sl"[: 1 if crowded else dice.pick(1, 2, 2)]]
    targets = [replace(target, count=1) for target in targets] if crowded else targets
    names = {target.name for target in targets}
    edges = [replace(an_edge(dice), name=name) for name in "abc"[: dice.pick(1, 2, 3)]]
    if crowded and dice.pick(True, False):  # many windows at the target at once, rather than many streams on a device
        edges = [replace(edge, count=5, draft_ms_per_token=1.0) for edge in edges]
    edges = [replace(e, targets=e.targets if names.issuperset(e.targets or ()) else None) for e in edges]
    paired = zip(edges, dice.some(an_acceptance, 2), strict=False)
    pairs = tuple(Pair(edge.name, (edge.targets or "s")[0], acceptance) for edge, acceptance in paired)
    return {"edges": tuple(edges), "targets": tuple(targets), "pairs": pairs}


def a_scenario(dice: Dice, drains_ms: Sequence[float]) -> Scenario:
    """Return a deployment, half of the time one at which everybody comes to one target at once."""
    pick, crowded = dice.pick, dice.pick(True, False)
    workload = a_workload(dice, crowded)
    classes = [replace(kind, name=f"kind{index}") for index, kind in enumerate(dice.some(a_class, 3))]
    if workload.kind == "trace":
        classes = [replace(kind, lengths=None) for kind in classes]
    return Scenario(
        name="random",
        **a_fleet(dice, crowded),
        link=a_link(dice),
        router=pick(*sorted(RULES)),
        router_report_ms=pick(0.0, 100.0),
        admission=Admission(pick("none", "none", "none", "reject", "degrade"), pick(0.5, 2.0)),
        workload=workload,
        lengths=Lengths(40, 25, 20, 16, 90, 40) if crowded else some_lengths(dice),
        acceptance=an_acceptance(dice),
        cloud=Cloud(pick("plain", "draft"), pick(1, 3, 8)),
        draft_ahead=pick(True, False),
        messages=Messages(header_bytes=pick(0.0, 100.0), payload=pick("ids", "distribution")),
        slo=an_slo(dice),
        classes=tuple(classes),
        max_window=pick(1, 5, 12, 16),
        warm_up_ms=pick(0.0, 300.0),
        horizon_ms=pick(600.0, 3000.0),
        drain_ms=pick(*drains_ms),
        max_requests=MAX_REQUESTS,
    )


def a_case(seed: int, drains_ms: Sequence[float] = (0.0, 800.0, FOREVER_MS)) -> Case:
    """Return the deployment of a seed, its luck, and somebody who decides: half of the time at random."""
    dice = Dice(seed)
    return Case(a_scenario(dice, drains_ms), dice.pick("random", dice.pick(*RULE_SPECS)), seed)


def cases(*drains_ms: float) -> st.SearchStrategy[Case]:
    """Return cases by their seed; hypothesis' own choice of each setting gathers too much around what it has tried."""
    seeds = st.integers(0, 2**31)
    return st.builds(a_case, seeds, st.just(drains_ms)) if drains_ms else st.builds(a_case, seeds)
