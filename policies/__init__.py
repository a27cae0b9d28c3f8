"""What was learned: the policy file and the decision it makes, with numpy and safetensors alone."""

from policies.format import load_policy, save_policy
from policies.mlp import PolicyRunner
from policies.policy import FORMAT_VERSION, Layer, Policy, PolicyError, PolicyHeader

__all__ = [
    "FORMAT_VERSION",
    "Layer",
    "Policy",
    "PolicyError",
    "PolicyHeader",
    "PolicyRunner",
    "load_policy",
    "save_policy",
]
