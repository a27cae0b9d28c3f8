"""Routing rules in worlds of M/M/1 queues, against queueing theory and what is known of stale information."""

from __future__ import annotations

import pytest

from tests.routing_world import queueing_world


def power_of_two_queue(load: float) -> float:
    """Return the mean customers at a server with two choices: sum of load^(2^i - 1), i = 1, 2, ... (Mitzenmacher)."""
    return sum(load ** (2**i - 1) for i in range(1, 12))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_two_choices_meet_the_mean_field(load: float) -> None:
    """100 servers are not infinitely many: the limit is met within some 3 %."""
    stay = queueing_world("jsq2", load).mean_stay
    assert stay == pytest.approx(power_of_two_queue(load) / load, rel=0.04)


def test_chance_is_as_good_as_queues_of_their_own() -> None:
    """1 / (1 - load); waits of neighbouring customers correlate, so 5 %."""
    assert queueing_world("random", 0.7).mean_stay == pytest.approx(1 / 0.3, rel=0.05)


def test_one_queue_bounds_the_shortest_queue_from_below() -> None:
    """No rule beats M/M/n (Erlang C), and joining the shortest queue of many is near service alone at load 0.7."""
    servers, load = 10, 0.7
    offered = servers * load
    erlang_b = 1.0
    for count in range(1, servers + 1):
        erlang_b = offered * erlang_b / (count + offered * erlang_b)
    waits = erlang_b / (1 - load + load * erlang_b)
    bound = 1 + waits / (servers * (1 - load))
    stays = {name: queueing_world(name, load, servers).mean_stay for name in ("jsq", "jsq2", "jiq", "random")}
    assert bound * 0.98 < stays["jsq"] < 1.25 * bound
    assert stays["jsq"] < stays["jsq2"] < stays["random"] and stays["jsq"] < stays["jiq"] < stays["random"]


def test_idle_queue_is_the_shortest_queue_while_somebody_is_idle() -> None:
    """At load 0.3 of 50 servers somebody nearly always is: service alone, 1."""
    stays = {name: queueing_world(name, 0.3, 50, 20_000).mean_stay for name in ("jiq", "jsq")}
    assert stays["jiq"] == pytest.approx(stays["jsq"], rel=0.01) and stays["jiq"] == pytest.approx(1, abs=0.02)


def test_old_reports_herd() -> None:
    """Fresh reports are as good as own books; at an interval of 20 services the herd is slower than chance."""
    chance = queueing_world("random", 0.7, 20, 40_000).mean_stay
    own = queueing_world("jsq", 0.7, 20, 40_000).mean_stay
    stays = [queueing_world("jsq_reported", 0.7, 20, 40_000, every).mean_stay for every in (0.0, 0.5, 5.0, 20.0)]
    assert stays[0] == pytest.approx(own, rel=0.1)
    assert stays == sorted(stays)
    assert stays[0] < 0.6 * chance and stays[-1] > 2.0 * chance


def test_speed_counts_where_it_differs() -> None:
    """Half of the servers three times as fast, load 0.8: equal shares overload the slow; weights do not."""

    def stay(name: str) -> float:
        return queueing_world(name, 0.8, 20, 30_000, speeds=lambda server: 1.0 + 2.0 * (server % 2)).mean_stay

    assert stay("weighted") < stay("weighted_jsq2") < stay("jsq2") < stay("random")
