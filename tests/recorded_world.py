"""Simulated sessions, logged as the runtime logs them, and what they look like when replayed."""

from __future__ import annotations

from pathlib import Path

from agents import make_controller
from agents.base import Controller
from dsd_gym.metrics import summarise
from dsd_gym.observation import Observation
from dsd_gym.record_acceptance import import_recording
from dsd_gym.recorded import RecordedRequest
from dsd_gym.records import Decision, Records, RequestRecord, Round
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, LinkSpec, Scenario, TargetClass, Workload
from dsd_gym.simulator import Simulation, simulate
from runtime.edge.log import SessionLog

TOKENS = 160
CHAT = Scenario(
    name="chat",
    edges=(EdgeClass(count=100),),
    link=LinkSpec(rtt_ms=10.0, jitter_ms=0.0),
    targets=(TargetClass(count=4),),
    workload=Workload(kind="poisson", rate_per_s=20.0),
    lengths=Lengths(prompt_mean=32, prompt_median=32, output_mean=TOKENS, output_median=TOKENS),
    acceptance=Acceptance("chat"),
    max_requests=300,
    warm_up_ms=0.0,
    drain_ms=600_000.0,
)


class Logged(Controller):
    """Let `inner` decide, and write what the runtime would."""

    def __init__(self, inner: Controller, log: SessionLog) -> None:
        self._inner, self._log = inner, log
        self._asked: dict[int, tuple[Observation, list[float]]] = {}
        self._simulation: Simulation | None = None

    def watch(self, simulation: Simulation) -> None:
        """Take hold of the simulation, whose tapes hold the draft's confidences."""
        self._simulation = simulation

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Keep what was seen: it is logged with the round."""
        assert self._simulation is not None
        self._asked[stream] = observation, self._simulation.live[stream].tape.confidence
        return self._inner.decide(observation, stream)

    def record(self, round: Round) -> None:
        """Log a round with the confidences of its drafts."""
        observation, confidence = self._asked[round.stream]
        start = observation.committed_tokens + round.cloud_tokens
        self._log.round(round, observation, confidence[start : start + round.drafted])
        self._inner.record(round)

    def ended(self, request: RequestRecord) -> None:
        """Log a request."""
        self._log.request(request)


def record(scenario: Scenario, controller: Controller | str, path: Path) -> list[RecordedRequest]:
    """Simulate `scenario`, log it, import the log into the recording `path` and return that."""
    inner = make_controller(controller, scenario.max_window) if isinstance(controller, str) else controller
    session = path.with_suffix(".session")
    log = SessionLog(session, controller="test", draft="small", target="large")
    logged = Logged(inner, log)
    for request in simulate(scenario, logged, seed=1).requests:
        logged.ended(request)
    log.close()
    return import_recording(session, "runtime", path)


def static(scenario: Scenario, window: int) -> Records:
    """Return the records of a fixed window."""
    return simulate(scenario, make_controller(f"static:{window}", scenario.max_window), seed=1)


def figures(scenario: Scenario, window: int) -> tuple[float, float]:
    """Return acceptance rate and mean acceptance length of a fixed window."""
    metrics = summarise(static(scenario, window))
    return metrics["acceptance_rate"], metrics["mean_acceptance_length"]
