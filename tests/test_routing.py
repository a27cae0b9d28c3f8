"""Routing rules by hand, on queues that are set; and what a router counts, reports and lets an edge reach."""

from __future__ import annotations

from collections import Counter
from typing import get_args, get_type_hints

import pytest

from dsd_gym.routing import RULES, TargetView
from dsd_gym.routing.two_level import TOKENS_A_ROUND, finish_ms
from dsd_gym.scenario import Lengths, Scenario
from tests.routing_world import Queue, make_rule, views_of


def chosen(name: str, queues: list[Queue], streams: int = 3000, seed: int = 0) -> Counter[int]:
    """Return how often each target is chosen while nothing changes."""
    views = views_of(queues)
    for view in views:
        view.take_report(0.0)
    rule = make_rule(name, views, seed)
    return Counter(views.index(rule.choose(stream)) for stream in range(streams))


def test_round_robin_takes_turns_exactly() -> None:
    views = views_of([Queue(9), Queue(0), Queue(4)])
    rule = make_rule("round_robin", views)
    assert [views.index(rule.choose(stream)) for stream in range(6)] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["jsq", "jsq_reported"])
def test_shortest_queue_wins_and_ties_go_to_the_first(name: str) -> None:
    assert chosen(name, [Queue(3), Queue(1), Queue(1)], 20) == {1: 20}


def test_two_choices_never_take_the_longest_and_are_distinct() -> None:
    counts = chosen("jsq2", [Queue(5), Queue(1), Queue(7)])
    assert counts[2] == 0  # it is never compared with itself
    assert counts[1] / 3000 == pytest.approx(2 / 3, abs=0.03) and counts[0] / 3000 == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("name", ["random", "jsq2", "weighted_jsq2", "jiq"])
def test_chance_depends_on_the_request_alone(name: str) -> None:
    """Four alike, busy targets: a share's standard error over 4000 requests is 0.7 points."""
    views = views_of([Queue(1) for _ in range(4)])
    rule = make_rule(name, views, seed=7)
    first = [views.index(rule.choose(stream)) for stream in range(4000)]
    assert [views.index(rule.choose(stream)) for stream in reversed(range(4000))] == first[::-1]
    if name != "jsq2" and name != "weighted_jsq2":  # there ties favour the first
        assert all(first.count(target) / 4000 == pytest.approx(0.25, abs=0.03) for target in range(4))


def test_weighted_prefers_the_faster_until_its_queue_outweighs_it() -> None:
    assert chosen("weighted", [Queue(2, 40.0), Queue(4, 10.0)], 5) == {1: 5}
    assert chosen("weighted", [Queue(2, 40.0), Queue(12, 10.0)], 5) == {0: 5}


def test_weighted_pairs_are_drawn_by_speed_without_replacement() -> None:
    """Speeds 3:1:1, the fast one busy: the last is taken only from a pair with the fast one, drawn first or second."""
    counts = chosen("weighted_jsq2", [Queue(99, 10.0), Queue(0, 30.0), Queue(1, 30.0)], 6000)
    assert counts[0] == 0
    assert counts[2] / 6000 == pytest.approx(3 / 5 * 1 / 2 + 1 / 5 * 3 / 4, abs=0.02)


def test_idle_targets_are_taken_in_the_order_they_fell_idle() -> None:
    queues = [Queue(0), Queue(1), Queue(0)]
    views = views_of(queues)
    rule = make_rule("jiq", views)

    def route(stream: int) -> int:
        index = views.index(rule.choose(stream))
        queues[index].live += 1
        return index

    assert route(0) == 0
    queues[1].live = 0
    assert route(1) == 2 and route(2) == 1  # 2 has been idle since before 1 was
    assert {route(stream) for stream in range(3, 40)} == {0, 1, 2}  # nobody idle: anyone


def test_an_idle_target_that_others_have_taken_is_not_offered() -> None:
    queues = [Queue(0) for _ in range(8)]
    views = views_of(queues)
    rule = make_rule("jiq", views)
    assert views.index(rule.choose(0)) == 0
    for queue in queues:  # all but the first by another rule's choice
        queue.live = 1
    chance = make_rule("random", views)
    assert all(rule.choose(stream) is chance.choose(stream) for stream in range(1, 40))


class Served:
    """A request in flight as a router sees it pass: its class, and the tokens it has had."""

    def __init__(self, verified: int, output_tokens: int = 1000, request_class: int = 0) -> None:
        self.verified, self.arrival = verified, self
        self.output_tokens, self.request_class = output_tokens, request_class


def test_least_remaining_work_counts_tokens_to_come() -> None:
    """Constant outputs of 100 tokens: one request with 90 had outweighs no two with 30; double speed counts double."""
    scenario = Scenario(lengths=Lengths(64, 64, 100, 100))
    views = views_of([Queue(1), Queue(2)])
    views[0].requests = {0: Served(30)}  # type: ignore[dict-item]
    views[1].requests = {1: Served(90), 2: Served(95)}  # type: ignore[dict-item]
    rule = make_rule("semi_clairvoyant", views, scenario=scenario)
    assert rule.choose(3) is views[1]  # 15 tokens against 70, though it has more requests
    views[1].requests = {1: Served(40), 2: Served(95)}  # type: ignore[dict-item]
    assert rule.choose(3) is views[1]  # 65 against 70
    views[1].requests = {1: Served(30), 2: Served(95)}  # type: ignore[dict-item]
    assert rule.choose(3) is views[0]  # 75 against 70
    views[1].requests = {1: Served(31), 2: Served(100, 100)}  # type: ignore[dict-item]
    assert rule.choose(3) is views[1]  # the finished one counts for nothing: 69 against 70
    views[1].requests = {1: Served(5)}  # type: ignore[dict-item]
    assert rule.choose(3) is views[0]
    views[1].target.one_token_iteration_ms = 10.0
    assert rule.choose(3) is views[1]


def tier(*queues: Queue, number: int, rtt_ms: float = 0.0) -> list[TargetView]:
    views = [TargetView(queue, number, rtt_ms) for queue in queues]  # type: ignore[arg-type]
    for view in views:
        for _ in range(60):  # until the smoothed pass has settled
            view.take_report(0.0)
    return views


def test_finish_is_estimated_from_rounds_round_trips_and_waiting_prompts() -> None:
    views = tier(Queue(3, iteration_ms=50.0), Queue(1, iteration_ms=30.0), number=0, rtt_ms=20.0)
    assert finish_ms(views, rounds=10.0, prompt_tokens=100.0) == pytest.approx(10 * (40 + 20))
    views[0].sent_since_report = 4
    assert finish_ms(views, rounds=10.0, prompt_tokens=100.0) == pytest.approx(10 * (40 + 20) + 2 * 40)
    busy = tier(Queue(8, waiting=300, iteration_ms=40.0, batch_size=5), number=0)
    assert finish_ms(busy, rounds=10.0, prompt_tokens=100.0) == pytest.approx(400 + 3 * 400 / 5)


def test_global_takes_the_tier_that_finishes_first_and_there_the_shortest_queue() -> None:
    near = tier(Queue(0, iteration_ms=60.0), Queue(5, iteration_ms=60.0), number=0)
    far = tier(Queue(9, iteration_ms=30.0), Queue(8, iteration_ms=30.0), number=1, rtt_ms=25.0)
    rule = make_rule("global", [*near, *far], scenario=Scenario(lengths=Lengths(64, 64, 27, 27)))
    assert rule.choose(0) is far[1]  # 10 rounds of 55 ms against 60
    far[0].rtt_ms = far[1].rtt_ms = 35.0
    assert rule.choose(0) is near[0]
    assert 27 / TOKENS_A_ROUND == 10


def test_scenarios_know_every_rule_by_its_name() -> None:
    assert set(get_args(get_type_hints(Scenario)["router"])) == set(RULES)


def test_every_rule_chooses_a_target_and_only_readers_read() -> None:
    for name, kind in RULES.items():
        views = views_of([Queue(2), Queue(3), Queue(0)])
        assert make_rule(name, views).choose(5) in views
        assert kind.reads_reports == (name in ("jsq_reported", "global"))
