"""What was learned: the policy file and the decision it makes, with numpy and safetensors alone."""

from policies.errors import PolicyError
from policies.format import load_policy, save_policy
from policies.header import FORMAT_VERSION, PolicyHeader
from policies.kinds import LOGITS, REGRESSOR
from policies.mlp import PolicyRunner
from policies.policy import Layer, Policy
from policies.regressor import WindowRegressor

__all__ = [
    "FORMAT_VERSION",
    "LOGITS",
    "REGRESSOR",
    "Layer",
    "Policy",
    "PolicyError",
    "PolicyHeader",
    "PolicyRunner",
    "WindowRegressor",
    "load_policy",
    "save_policy",
]
