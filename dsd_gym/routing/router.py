"""The router: what it knows of each target, which targets an edge may use, and the rule that chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import simpy

from dsd_gym.messages import LAST, call_later
from dsd_gym.routing.blind import Random, RoundRobin
from dsd_gym.routing.idle_queue import JoinIdleQueue
from dsd_gym.routing.least_remaining import LeastRemainingWork
from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.rule import Rule
from dsd_gym.routing.shortest_queue import JoinShortest, JoinShortestReported, ShorterOfTwo
from dsd_gym.routing.two_level import TwoLevel
from dsd_gym.routing.view import TargetView
from dsd_gym.routing.weighted import LeastWork, WeightedShorterOfTwo
from dsd_gym.scenario import Scenario

if TYPE_CHECKING:
    from dsd_gym.request import Request
    from dsd_gym.target import TargetServer

RULES: dict[str, type[Rule]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "jsq": JoinShortest,
    "jsq2": ShorterOfTwo,
    "jsq_reported": JoinShortestReported,
    "weighted": LeastWork,
    "weighted_jsq2": WeightedShorterOfTwo,
    "jiq": JoinIdleQueue,
    "semi_clairvoyant": LeastRemainingWork,
    "global": TwoLevel,
}
"""Rules by the names that a scenario's `router` gives them."""


class Router:
    """Sends each request to one of the targets that its edge class may use. One router serves the whole deployment.

    Edge classes with the same targets share a rule and its state. Targets report every `router_report_ms`, all at
    once; with 0 they are asked at each arrival.
    """

    def __init__(self, env: simpy.Environment, scenario: Scenario, targets: Sequence[TargetServer], seed: int) -> None:
        self._env, self._report_ms = env, scenario.router_report_ms
        tiers = [tier for tier, spec in enumerate(scenario.targets) for _ in range(spec.count)]
        round_trips = [scenario.targets[tier].region_rtt_ms for tier in tiers]
        self.views = [TargetView(*figures) for figures in zip(targets, tiers, round_trips, strict=True)]
        self._by_target = {view.target: view for view in self.views}
        rule, lengths = RULES[scenario.router], RequestLengths(scenario)
        pools: dict[tuple[int, ...], Rule] = {}
        self._rules: list[Rule] = []
        for tiers_of_edge in scenario.reachable:
            views = [view for view in self.views if view.tier in tiers_of_edge]
            self._rules.append(pools.setdefault(tiers_of_edge, rule(views, seed, lengths)))
        self._reads_reports = rule.reads_reports
        if rule.reads_reports and self._report_ms:
            self._collect()

    def route(self, stream: int, edge_class: int = 0, request_class: int = 0) -> TargetView:
        """Return the target of a new request; draws depend on the request, not on the order of asking."""
        rule = self._rules[edge_class]
        if len(rule.views) == 1:
            return rule.views[0]
        if self._reads_reports and not self._report_ms:
            self._take_reports()
        return rule.choose(stream, request_class)

    def entered(self, request: Request) -> None:
        """Take note of a request that goes to its target."""
        view = self._by_target[request.target]
        view.requests[request.arrival.stream] = request
        view.sent_since_report += 1

    def left(self, request: Request) -> None:
        """Take note of a request that finished or was rejected."""
        del self._by_target[request.target].requests[request.arrival.stream]

    def _take_reports(self) -> None:
        for view in self.views:
            view.take_report(self._env.now)

    def _collect(self) -> None:
        """Take a report of every target, and again after `router_report_ms`."""
        self._take_reports()
        call_later(self._env, self._report_ms, self._collect, LAST)
