"""What holds for one kind of request: its class's own figures, or else the scenario's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsd_gym.scenario.load import Lengths, Slo
    from dsd_gym.scenario.scenario import Scenario
    from dsd_gym.scenario.speculation import Acceptance


def class_shares(scenario: Scenario) -> list[float]:
    """Return the probability of each request class; a scenario without classes has one."""
    total = sum(kind.share for kind in scenario.classes)
    return [kind.share / total for kind in scenario.classes] or [1.0]


def class_slo(scenario: Scenario, request_class: int) -> Slo:
    """Return what a request of the class is promised."""
    return (scenario.classes[request_class].slo if scenario.classes else None) or scenario.slo


def class_lengths(scenario: Scenario, request_class: int) -> Lengths:
    """Return the lengths of the class."""
    return (scenario.classes[request_class].lengths if scenario.classes else None) or scenario.lengths


def class_priority(scenario: Scenario, request_class: int) -> int:
    """Return how urgent a request of the class is; smaller goes first."""
    return scenario.classes[request_class].priority if scenario.classes else 0


def acceptance_of(scenario: Scenario, edge_class: int, tier: int, request_class: int) -> Acceptance:
    """Return how drafts of an edge class fare with a target class: as the pair, else the request class, else all do."""
    edge, target = scenario.edges[edge_class].name, scenario.targets[tier].name
    for pair in scenario.pairs:
        if (pair.edge, pair.target) == (edge, target):
            return pair.acceptance
    return (scenario.classes[request_class].acceptance if scenario.classes else None) or scenario.acceptance


def mean_lengths(scenario: Scenario) -> tuple[float, float]:
    """Return the mean output and prompt tokens of synthetic requests, over all classes."""
    shares = class_shares(scenario)
    lengths = [class_lengths(scenario, index) for index in range(len(shares))]
    output = sum(share * spec.output_mean for share, spec in zip(shares, lengths, strict=True))
    return output, sum(share * spec.prompt_mean for share, spec in zip(shares, lengths, strict=True))
