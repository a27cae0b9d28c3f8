"""A target server: what waits, what rides in its next pass, and what comes out."""

from dsd_gym.target.load import TargetLoad
from dsd_gym.target.outcomes import Verdict
from dsd_gym.target.server import TargetServer

__all__ = ["TargetLoad", "TargetServer", "Verdict"]
