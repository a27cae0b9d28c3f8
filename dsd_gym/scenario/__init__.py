"""What is simulated: one frozen dataclass for each noun of a deployment. YAML holds differences from their defaults."""

from dsd_gym.scenario.fleet import EdgeClass, TargetClass
from dsd_gym.scenario.links import LinkSpec, Regime
from dsd_gym.scenario.load import Lengths, Piece, Slo, Workload
from dsd_gym.scenario.scenario import Scenario
from dsd_gym.scenario.speculation import Acceptance, Cloud, Messages

__all__ = [
    "Acceptance",
    "Cloud",
    "EdgeClass",
    "Lengths",
    "LinkSpec",
    "Messages",
    "Piece",
    "Regime",
    "Scenario",
    "Slo",
    "TargetClass",
    "Workload",
]
