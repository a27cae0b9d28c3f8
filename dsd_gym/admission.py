"""What a target does with a prompt when it arrives: take it, turn it away, or take it and leave all of it to the cloud.

Early rejection pays in overload: a request that would break its promises anyway takes time from those that would not
(Mooncake, Qin et al., arXiv 2407.00079, rejects by predicted load).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import simpy

from dsd_gym.forecast import Forecast
from dsd_gym.request import Request
from dsd_gym.scenario import Scenario
from dsd_gym.target import TargetServer


class Admission(ABC):
    """Decides at the target, from what the target knows of itself and of the request's way so far."""

    def __init__(self, forecasts: dict[TargetServer, Forecast], margin: float) -> None:
        self.forecasts, self.margin = forecasts, margin

    @abstractmethod
    def admit(self, request: Request) -> bool:
        """Hand an arrived prompt to its target, or return False: it is rejected."""

    def hand_over(self, request: Request) -> bool:
        """Let the target queue the request, which it may still refuse."""
        admitted = request.target.admit(request)
        if admitted:
            self.forecasts[request.target].admitted(request)
        return admitted


class AdmitAll(Admission):
    """Whatever the target has room for."""

    def admit(self, request: Request) -> bool:
        """Hand the prompt to its target."""
        return request.target.admit(request)


class RejectLate(Admission):
    """Turns away what would have its first token too late."""

    def admit(self, request: Request) -> bool:
        """Hand the prompt to its target if its first token should come in time."""
        if self.forecasts[request.target].of(request).ttft_ms > self.margin * request.slo.ttft_ms:
            request.target.live -= 1
            return False
        return self.hand_over(request)


class DegradeLate(Admission):
    """Lets the cloud decode what would be late, or slow at the edge: one token a pass takes the least of a target."""

    def admit(self, request: Request) -> bool:
        """Hand the prompt to its target, with or without the use of windows."""
        foreseen, slo = self.forecasts[request.target].of(request), request.slo
        late = foreseen.ttft_ms > self.margin * slo.ttft_ms
        request.degraded = late or foreseen.edge_tpot_ms > self.margin * slo.tpot_ms
        return self.hand_over(request)


_RULES: dict[str, type[Admission]] = {"none": AdmitAll, "reject": RejectLate, "degrade": DegradeLate}


def make_admission(env: simpy.Environment, scenario: Scenario, targets: Sequence[TargetServer]) -> Admission:
    """Return the admission rule that the scenario names."""
    specs = [spec for spec in scenario.targets for _ in range(spec.count)]
    forecasts = {target: Forecast(env, target, spec) for target, spec in zip(targets, specs, strict=True)}
    return _RULES[scenario.admission.rule](forecasts, scenario.admission.margin)
