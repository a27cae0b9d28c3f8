"""Which target a request goes to, for its whole life: one file a rule, and the router that they decide for."""

from dsd_gym.routing.router import RULES, Router
from dsd_gym.routing.view import TargetView

__all__ = ["RULES", "Router", "TargetView"]
