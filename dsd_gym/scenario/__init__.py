"""What is simulated: one frozen dataclass for each noun of a deployment. YAML holds differences from their defaults."""

from dsd_gym.scenario.fleet import EdgeClass, Pair, TargetClass
from dsd_gym.scenario.links import Handover, LinkSpec, Outage, Regime
from dsd_gym.scenario.load import Admission, Lengths, Piece, RequestClass, Slo, Workload
from dsd_gym.scenario.scenario import Scenario
from dsd_gym.scenario.speculation import Acceptance, Cloud, Messages

__all__ = [
    "Acceptance",
    "Admission",
    "Cloud",
    "EdgeClass",
    "Handover",
    "Lengths",
    "LinkSpec",
    "Messages",
    "Outage",
    "Pair",
    "Piece",
    "Regime",
    "RequestClass",
    "Scenario",
    "Slo",
    "TargetClass",
    "Workload",
]
