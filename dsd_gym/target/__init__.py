"""A target server: what waits, what rides in its next pass, and what comes out."""

from dsd_gym.target.server import TargetServer, Verdict

__all__ = ["TargetServer", "Verdict"]
