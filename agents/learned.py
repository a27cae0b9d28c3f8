"""An exported policy as a controller."""

from __future__ import annotations

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision
from policies import Policy, PolicyRunner


class Learned(Controller):
    """Answer with the policy's most probable window. `runner` counts observations outside the trained ranges."""

    def __init__(self, policy: Policy) -> None:
        self.runner = PolicyRunner(policy)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the argmax of the network's logits."""
        return Decision(self.runner.window(observation))
