"""Decide with a policy that is a tree, and make one of a tree that was distilled from another policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURE_NAMES, Observation, scaled, to_array
from dsd_gym.priced_inputs import ASKED
from dsd_gym.records import Decision
from dsd_gym.window_tree import WindowTree
from policies.errors import PolicyError
from policies.header import FORMAT_VERSION
from policies.kinds import KINDS, TREE
from policies.policy import Policy
from policies.ranges import seen_ranges


class TreeRunner:
    """A tree at work. Counts what training had not seen, so it serves any number of streams but one thread."""

    def __init__(self, policy: Policy) -> None:
        if policy.tree is None:
            raise PolicyError(f"a policy of {policy.header.kind} is no tree")
        self.policy = policy
        self.seen = seen_ranges(policy.header, len(FEATURE_NAMES))
        """Counts what training had not seen."""
        self._tree = policy.tree

    def decide(self, observation: Observation) -> Decision:
        """Return the window of the leaf that the observation ends in; drafting never stops early."""
        self.seen.count(to_array(observation))
        return Decision(self._tree.choose(observation))

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None, NDArray[np.bool_]]:
        """Return the windows for rows of features in their own units, (n, features), and what is far outside.

        Nothing is counted.
        """
        return self._tree.choose_many(seen), None, self.seen.far(scaled(seen))


def tree_policy(policy: Policy, tree: WindowTree, command: str, evaluation: dict[str, Any]) -> Policy:
    """Return `tree` as a policy: with the header of the `policy` it stands for, and what made and tested it."""
    header = replace(
        policy.header,
        kind=TREE,
        feature_names=tuple(ASKED),
        feature_scaling=KINDS[TREE].scaling(),
        feature_ranges={name: (0.0, asked.high) for name, asked in ASKED.items()} | policy.header.feature_ranges,
        activation="none",
        stop_thresholds=(),
        command=command,
        evaluation=evaluation,
        format_version=FORMAT_VERSION,
    )
    return Policy(header, (), tree)
