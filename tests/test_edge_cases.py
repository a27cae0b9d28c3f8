"""The ends of the range: a thousand devices, nobody at all, one token, a target that holds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents import make_controller
from dsd_gym.config import ConfigError
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.metrics import summarise
from dsd_gym.records import Records, Status
from dsd_gym.scenario import (
    Admission,
    EdgeClass,
    Lengths,
    LinkSpec,
    Piece,
    RequestClass,
    Scenario,
    TargetClass,
    Workload,
)
from dsd_gym.scenario_files import scenario_from
from dsd_gym.simulator import simulate
from tests.test_conservation import check

SMALL = Scenario(
    targets=(TargetClass("h100", "Llama-3.1-8B", 1),), lengths=Lengths(50, 50, 12, 12), warm_up_ms=0, horizon_ms=3000
)


def run(scenario: Scenario, spec: str = "static:3") -> Records:
    return simulate(scenario, make_controller(spec, scenario.max_window), 0)


@pytest.mark.parametrize("router", ["jsq", "jiq", "semi_clairvoyant", "global"])
def test_a_thousand_devices_on_twenty_targets(router: str) -> None:
    """Each device is heard once before any is twice, and all that arrive are served."""
    scenario = replace(
        SMALL,
        edges=(EdgeClass("l40s/Llama-3.2-1B", 600), EdgeClass("jetson_orin_nano/Llama-3.2-1B", 400)),
        targets=(TargetClass("h100", "Llama-3.1-8B", 1, 20),),
        router=router,  # type: ignore[arg-type]
        workload=Workload(rate_per_s=500.0),
        max_requests=1200,
    )
    records = run(scenario)
    check(records)
    assert {r.status for r in records.requests} == {Status.FINISHED} and len(records.requests) == 1200
    first = sorted(records.requests, key=lambda request: request.arrival_ms)[:1000]
    assert {r.device for r in first} == set(range(1000))
    assert {r.target for r in records.requests} == set(range(20))


@pytest.mark.parametrize(
    "workload",
    [
        Workload("trace", trace="configs/traces/sample_azure.csv", trace_start_ms=1e9),
        Workload("poisson", rate_per_s=1e-9),
        Workload("closed", users=3, think_ms=1e9),
        Workload("piecewise", rate_per_s=5.0, pieces=(Piece(1e6, 0.0), Piece(1.0, 1.0))),
    ],
)
def test_where_nobody_comes_the_run_ends_and_metrics_and_env_say_so(workload: Workload) -> None:
    scenario = replace(SMALL, name="desert", workload=workload)
    records = run(scenario)
    assert not records.requests and not records.rounds and records.stopped_ms <= 63_000 + 1
    with pytest.raises(ValueError, match="no request arrived between 0 and 3000 ms"):
        summarise(records)
    with pytest.raises(ConfigError, match="desert: nobody ever asks"):
        EdgeCloudEnv(scenario).reset(seed=0)


@pytest.mark.parametrize("rule", ["none", "reject", "degrade"])
@pytest.mark.parametrize("router", ["jsq", "global"])
def test_one_token_outputs_need_nobody_to_decide(rule: Any, router: Any) -> None:
    """The prefill makes the one token: no rounds, no TPOT to miss, and every request within its promises."""
    scenario = replace(
        SMALL,
        targets=(replace(SMALL.targets[0], count=2),),
        lengths=Lengths(50, 50, 1, 1),
        router=router,
        admission=Admission(rule),
        classes=(RequestClass("only"),),
    )
    records = run(scenario)
    check(records)
    assert records.requests and not records.rounds
    figures = summarise(records)
    assert figures["slo_attainment"] == figures["slo_attainment.only"] == 1.0
    assert all(r.finish_ms == r.first_token_ms for r in records.requests)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"edges": []}, "a scenario needs at least one entry in edges and in targets"),
        ({"targets": []}, "a scenario needs at least one entry in edges and in targets"),
        ({"edges": [{"count": 0}]}, "edges.0.count: must be greater than 0"),
        ({"edges": [{"count": 10**9}]}, "edges.0.count: must be less than or equal to 1000000, got 1000000000"),
        (
            {"workload": {"kind": "closed", "users": 10**9}},
            "workload.users: must be less than or equal to 1000000, got 1000000000",
        ),
        ({"workload": {"kind": "closed", "users": 0}}, "workload.users: must be greater than 0"),
        ({"workload": {"kind": "closed"}}, "workload: closed needs users"),
        ({"max_requests": 0}, "max_requests: must be greater than 0"),
    ],
)
def test_a_deployment_of_nobody_is_one_clear_line(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario_from(data, source="nobody.yaml")
    assert str(caught.value).startswith(f"nobody.yaml: {says}") and "\n" not in str(caught.value)


def test_a_target_that_holds_no_request_rejects_each_at_once() -> None:
    records = run(replace(SMALL, targets=(replace(SMALL.targets[0], kv_tokens=10),)))
    check(records)
    assert records.requests and {r.status for r in records.requests} == {Status.REJECTED}
    figures = summarise(records)
    assert figures["goodput_requests_s"] == figures["slo_attainment"] == 0.0
    assert figures["rejected"] == figures["scored_requests"] == len(records.requests)


def test_a_run_that_stops_at_its_horizon_leaves_requests_in_flight() -> None:
    far = LinkSpec(rtt_ms=4000, jitter_ms=0)
    records = run(replace(SMALL, link=far, horizon_ms=1000, drain_ms=0))
    check(records)
    assert records.requests and {r.status for r in records.requests} == {Status.IN_FLIGHT}
    assert records.stopped_ms == pytest.approx(1000)
