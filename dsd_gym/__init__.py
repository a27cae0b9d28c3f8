"""DSD-Gym: how far ahead to speculate when a draft model at the edge and a target model in the cloud write together.

Importing the package loads its ground floor alone and registers `dsd_gym/EdgeCloud-v0` where gymnasium is installed;
the simulator and the environment are imported by those who use them.
"""

from dsd_gym.observation import FEATURE_NAMES, MAX_WINDOW, Observation, to_array
from dsd_gym.records import Decision, Records, Round
from dsd_gym.registration import register_with_gymnasium

__version__ = "0.1.0"
__all__ = ["FEATURE_NAMES", "MAX_WINDOW", "Decision", "Observation", "Records", "Round", "__version__", "to_array"]

register_with_gymnasium()
