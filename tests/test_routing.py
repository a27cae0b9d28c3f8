"""Routers: each sends requests where its rule says, evenly or to the faster."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from agents import make_controller
from dsd_gym.routing import Router
from dsd_gym.scenario import Lengths, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate

FAST = TargetClass("h100", "Llama-3.1-70B", 4)
SLOW = TargetClass("a100", "Llama-3.1-70B", 4)
RULES = ("random", "round_robin", "jsq", "jsq2", "weighted")


@dataclass
class Queue:
    """What a router sees of a target."""

    live: int
    one_token_iteration_ms: float = 20.0


def shares(rule: str, *targets: TargetClass, rate_per_s: float = 40.0) -> list[float]:
    scenario = Scenario(
        targets=targets,
        router=rule,  # type: ignore[arg-type]
        workload=Workload(rate_per_s=rate_per_s),
        lengths=Lengths(64, 64, 30, 30),
        warm_up_ms=0,
        horizon_ms=8000,
    )
    requests = simulate(scenario, make_controller("static:3", 12), 1).requests
    counts = Counter(r.target for r in requests)
    return [counts[target] / len(requests) for target in range(sum(t.count for t in targets))]


@pytest.mark.parametrize("rule", RULES)
def test_every_router_shares_among_equal_targets(rule: str) -> None:
    """320 requests over 4 targets; standard error of a random share 2.4 points; ties favour the first."""
    found = shares(rule, replace(SLOW, count=4))
    assert sum(found) == pytest.approx(1.0) and min(found) > 0.15 and max(found) < 0.4


def test_round_robin_takes_turns_exactly() -> None:
    router = Router("round_robin", [Queue(live) for live in (9, 0, 4)], seed=0)  # type: ignore[arg-type]
    assert [router.route(stream).live for stream in range(6)] == [9, 0, 4, 9, 0, 4]


def test_shortest_queue_wins_and_ties_go_to_the_first() -> None:
    queues = [Queue(3), Queue(1), Queue(1)]
    router = Router("jsq", queues, seed=0)  # type: ignore[arg-type]
    assert all(router.route(stream) is queues[1] for stream in range(20))


def test_two_choices_never_take_the_longest_and_are_distinct() -> None:
    queues = [Queue(5), Queue(1), Queue(7)]
    router = Router("jsq2", queues, seed=0)  # type: ignore[arg-type]
    counts = Counter(router.route(stream).live for stream in range(3000))
    assert counts[7] == 0  # it is never compared with itself
    assert counts[1] / 3000 == pytest.approx(2 / 3, abs=0.03) and counts[5] / 3000 == pytest.approx(1 / 3, abs=0.03)


def test_random_is_uniform_and_depends_on_the_request_alone() -> None:
    router = Router("random", queues := [Queue(live) for live in range(4)], seed=7)  # type: ignore[arg-type]
    chosen = [router.route(stream).live for stream in range(4000)]
    assert [router.route(stream).live for stream in reversed(range(4000))] == chosen[::-1]
    assert all(chosen.count(queue.live) / 4000 == pytest.approx(0.25, abs=0.03) for queue in queues)


def test_weighted_prefers_the_faster() -> None:
    queues = [Queue(2, 40.0), Queue(4, 10.0)]
    router = Router("weighted", queues, seed=0)  # type: ignore[arg-type]
    assert router.route(0) is queues[1]
    queues[1].live = 12
    assert router.route(0) is queues[0]
    slow, fast = shares("weighted", SLOW, FAST)
    assert fast > 1.3 * slow


def test_joining_the_shortest_queue_balances_no_worse_than_chance() -> None:
    """Spread of live requests over 8 equal targets, by the counts that the routers themselves see."""

    def spread(rule: str) -> float:
        random = np.random.default_rng(0)
        queues = [Queue(0) for _ in range(8)]
        router, spreads, serving = Router(rule, queues, seed=1), [], []  # type: ignore[arg-type]
        for stream in range(3000):
            queue = router.route(stream)
            queue.live += 1  # type: ignore[misc]
            serving.append(queue)
            if len(serving) > 60:
                serving.pop(int(random.integers(len(serving)))).live -= 1  # type: ignore[misc]
            spreads.append(np.std([queue.live for queue in queues]))
        return float(np.mean(spreads))

    chance = spread("random")
    assert spread("jsq") < spread("jsq2") < chance
