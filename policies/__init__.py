"""What was learned: the policy file and the decision it makes, with numpy and safetensors alone."""

from policies.errors import PolicyError
from policies.format import load_policy, save_policy
from policies.header import FORMAT_VERSION, PolicyHeader
from policies.kinds import LOGITS, PRICED, REGRESSOR, STACKED, TREE
from policies.mlp import PolicyRunner
from policies.policy import Layer, Policy
from policies.regressor import WindowRegressor
from policies.tree import TreeRunner, tree_policy

__all__ = [
    "FORMAT_VERSION",
    "LOGITS",
    "PRICED",
    "REGRESSOR",
    "STACKED",
    "TREE",
    "Layer",
    "Policy",
    "PolicyError",
    "PolicyHeader",
    "PolicyRunner",
    "TreeRunner",
    "WindowRegressor",
    "load_policy",
    "save_policy",
    "tree_policy",
]
