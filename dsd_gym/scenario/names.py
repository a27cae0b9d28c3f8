"""Classes that call each other by name: who reaches whom, and one clear line for a name that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsd_gym.config_errors import did_you_mean

if TYPE_CHECKING:
    from dsd_gym.scenario.scenario import Scenario


def reachable_tiers(scenario: Scenario) -> tuple[tuple[int, ...], ...]:
    """Return for each edge class the indices of the target classes that it may use."""
    return tuple(
        tuple(tier for tier, spec in enumerate(scenario.targets) if edge.targets is None or spec.name in edge.targets)
        for edge in scenario.edges
    )


def check_names(scenario: Scenario) -> None:
    """Raise ValueError, with the key, for a name that stands twice or nowhere, and for what could never happen."""
    edges = _distinct("edges", [edge.name for edge in scenario.edges])
    targets = _distinct("targets", [target.name for target in scenario.targets])
    _check_reachability(scenario, targets)
    _check_pairs(scenario, edges, targets)
    _check_classes(scenario)


def _check_reachability(scenario: Scenario, targets: Sequence[str]) -> None:
    for index, edge in enumerate(scenario.edges):
        if edge.targets is not None and not edge.targets:
            raise ValueError(f"edges.{index}.targets: names nobody to serve this class; leave it out to reach all")
        for name in edge.targets or ():
            _known(name, targets, f"edges.{index}.targets", "targets")


def _check_pairs(scenario: Scenario, edges: Sequence[str], targets: Sequence[str]) -> None:
    met: set[tuple[str, str]] = set()
    for index, pair in enumerate(scenario.pairs):
        edge = edges.index(_known(pair.edge, edges, f"pairs.{index}.edge", "edges"))
        _known(pair.target, targets, f"pairs.{index}.target", "targets")
        allowed = scenario.edges[edge].targets
        if allowed is not None and pair.target not in allowed:
            raise ValueError(f"pairs.{index}: {pair.edge} does not reach {pair.target}")
        if (pair.edge, pair.target) in met:
            raise ValueError(f"pairs.{index}: {pair.edge} and {pair.target} stand twice")
        met.add((pair.edge, pair.target))


def _check_classes(scenario: Scenario) -> None:
    _distinct("classes", [kind.name for kind in scenario.classes])
    for index, kind in enumerate(scenario.classes):
        if not kind.name:
            raise ValueError(f"classes.{index}.name: must not be empty")
        if kind.lengths is not None and scenario.workload.kind == "trace":
            raise ValueError(f"classes.{index}.lengths: a trace brings its own lengths")


def _distinct(key: str, names: Sequence[str]) -> Sequence[str]:
    """Return the names, of which only the empty one may stand twice."""
    for index, name in enumerate(names):
        if name and name in names[:index]:
            raise ValueError(f"{key}.{index}.name: {name} stands twice")
    return names


def _known(name: str, names: Sequence[str], key: str, among: str) -> str:
    given = [known for known in names if known]
    if name in given:
        return name
    hint = did_you_mean(name, given) if given else f"; none of the {among} has a name"
    raise ValueError(f"{key}: no {name!r} among the names of {among}{hint}")
