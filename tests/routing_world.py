"""Targets as routing rules meet them: made by hand, or as a world of queues with exponential service."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dsd_gym import luck
from dsd_gym.routing import RULES, TargetView
from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.rule import Rule
from dsd_gym.scenario import Scenario
from dsd_gym.target.load import TargetLoad


@dataclass(eq=False)
class Queue:
    """A target of which nothing is seen but what a router sees."""

    live: int
    one_token_iteration_ms: float = 20.0
    waiting: int = 0
    """Prompt tokens."""
    iteration_ms: float = 20.0
    batch_size: int = 1

    def load(self) -> TargetLoad:
        return TargetLoad(0, self.waiting, 0, self.live, 0.0, self.iteration_ms, self.batch_size, ended_ms=0.0)


def views_of(queues: Sequence[Queue]) -> list[TargetView]:
    return [TargetView(queue) for queue in queues]  # type: ignore[arg-type]


def make_rule(name: str, views: Sequence[TargetView], seed: int = 0, scenario: Scenario | None = None) -> Rule:
    return RULES[name](views, seed, RequestLengths(scenario or Scenario()))


@dataclass
class Outcome:
    """What customers met: how many were at their server before them, and how long they stayed (service takes 1)."""

    found: list[int] = field(default_factory=list)
    stays: list[float] = field(default_factory=list)

    @property
    def mean_stay(self) -> float:
        return sum(self.stays) / len(self.stays)


def queueing_world(
    name: str,
    load: float,
    servers: int = 100,
    customers: int = 60_000,
    report_every: float = 0.0,
    speeds: Callable[[int], float] = lambda server: 1.0,
) -> Outcome:
    """Return what customers meet at M/M/1 servers between which a routing rule chooses.

    Poisson arrivals of `load` x the summed speeds; first come, first served; service exponential of mean 1 / speed. The
    first fifth of the customers warms up. Reports are taken every `report_every`, all at once.
    """
    queues = [Queue(0, 1.0 / speeds(server)) for server in range(servers)]
    views = views_of(queues)
    rule, free_at = make_rule(name, views), [0.0] * servers
    rate, now, reported = load * sum(speeds(server) for server in range(servers)), 0.0, -math.inf
    leaving: list[tuple[float, int]] = []
    outcome = Outcome()
    for customer in range(customers):
        now -= math.log(luck.uniform(0, luck.ARRIVAL, customer, 0)) / rate
        if rule.reads_reports and now >= reported + report_every:
            reported = now - (now % report_every if report_every else 0.0)
            for view in views:
                view.take_report(now)
        while leaving and leaving[0][0] <= now:
            queues[heapq.heappop(leaving)[1]].live -= 1
        server = views.index(rule.choose(customer))
        service = -math.log(luck.uniform(0, luck.THINK, customer, 0)) / speeds(server)
        free_at[server] = max(now, free_at[server]) + service
        heapq.heappush(leaving, (free_at[server], server))
        if customer >= customers // 5:
            outcome.found.append(queues[server].live)
            outcome.stays.append(free_at[server] - now)
        queues[server].live += 1
    return outcome
