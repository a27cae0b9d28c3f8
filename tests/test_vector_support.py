"""What the compiled twin refuses, by name; and that every setting is refused, exercised or without effect in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twins import compilable, compilable_case

import dsd_gym.scenario
from agents.vec_env import CompiledVecEnv, SimulatedVecEnv, make_vec_env
from dsd_gym.config import ConfigError
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.scenario import Scenario
from dsd_gym.scenario_files import load_scenario
from dsd_gym.vector import rows
from dsd_gym.vector.env import EdgeCloudVectorEnv
from dsd_gym.vector.loading import Deployment
from dsd_gym.vector.support import _ONLY, unsupported

PAIR = [{"edge": "a", "target": "t", "acceptance": {"profile": "code"}}]
NAMED = {"edges": [{"name": "a"}], "targets": [{"name": "t"}]}
REFUSED: dict[str, dict[str, Any]] = {
    "router: 'random'": {"router": "random"},
    "draft_ahead: True": {"draft_ahead": True},
    "classes: (RequestClass(": {"classes": [{"name": "chat"}]},
    "pairs: (Pair(": {**NAMED, "pairs": PAIR},
    "admission.rule: 'reject'": {"admission.rule": "reject"},
    "cloud.mode: 'draft'": {"cloud.mode": "draft"},
    "edges.0.targets: ('t',)": {**NAMED, "edges": [{"targets": ["t"]}]},
    "targets.0.latency_model: 'staircase'": {"targets.0.latency_model": "staircase"},
    "targets.0.order: 'edf'": {"targets.0.order": "edf"},
    "targets.0.padded: True": {"targets.0.padded": True},
    "targets.0.batch_wait_ms: 3.0": {"targets.0.batch_wait_ms": 3.0},
    "targets.0.chunked_prefill: False": {"targets.0.chunked_prefill": False},
    "targets.0.memory: 'preempt'": {"targets.0.memory": "preempt"},
    "targets.0.region_rtt_ms: 30.0": {"targets.0.region_rtt_ms": 30.0},
    "link.queueing: 'device'": {"link.queueing": "device"},
    "link.trace: 'a.csv'": {"link.trace": "a.csv"},
    "link.loss: 0.1": {"link.loss": 0.1},
    "link.outages: (Outage(": {"link.outages": [{"start_ms": 1.0, "duration_ms": 2.0}]},
    "link.handover: Handover(": {"link.handover": {"every_ms": 100.0, "gap_ms": 10.0}},
}
WITHOUT_EFFECT = {
    "Scenario": {"name", "description", "score", "seed", "router_report_ms"},
    "EdgeClass": {"site"},  # of links that queue
    "TargetClass": set[str](),
    "LinkSpec": {"trace_shift", "retransmit_ms"},  # of a trace; of lost segments
    "Regime": {"name"},
    "Cloud": {"draft_model", "draft_window"},  # of mode draft
    "Admission": {"margin"},  # of another rule
}
"""Settings that decide nothing in what the twin runs: names, and what belongs to mechanisms that it refuses."""
REFUSED_WHOLE = {"Outage", "Handover", "Pair", "RequestClass"}
SAME_IN_ALL_EXAMPLES = {"Regime": {"dwell_ms", "rtt_factor", "bandwidth_factor", "outage"}}
"""Of a list that the examples take whole or leave."""
SECTIONS = {"": "Scenario", "edges": "EdgeClass", "targets": "TargetClass", "link": "LinkSpec"}


@pytest.mark.parametrize(("key", "changed"), REFUSED.items(), ids=list(REFUSED))
def test_what_is_not_compiled_is_refused_by_name(key: str, changed: dict[str, Any]) -> None:
    scenario = load_scenario("train/single", changed)
    why = unsupported(scenario)
    assert why is not None and why.startswith(key)
    with pytest.raises(ConfigError) as error:
        Deployment(scenario)
    assert str(error.value) == f"single: {why} is not compiled; the SimPy simulator runs it"
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="is not compiled"):
        EdgeCloudVectorEnv(2, scenario)
    assert unsupported(compilable(scenario)) is None


def test_a_class_with_a_link_of_its_own_is_looked_at_too() -> None:
    scenario = load_scenario("train/single", {"edges": [{}, {"link": {"loss": 0.2}}]})
    assert unsupported(scenario) == "edges.1.link.loss: 0.2"


def test_every_setting_that_is_refused_has_a_case() -> None:
    asked = {".".join(part for part in key.split(":")[0].split(".") if part != "0") for key in REFUSED}
    assert asked == {f"{section}.{name}".lstrip(".") for section, names in _ONLY.items() for name in names}


def parts(scenario: Scenario) -> Iterator[Any]:
    """Yield every dataclass of a scenario."""
    waiting: list[Any] = [scenario]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += part
        elif dataclasses.is_dataclass(part):
            yield part
            waiting += [getattr(part, field.name) for field in dataclasses.fields(part)]


def test_every_setting_is_refused_or_exercised_or_without_effect() -> None:
    """A new mechanism must be compiled, and told to the random deployments, or be refused."""
    seen: dict[tuple[str, str], set[str]] = {}
    for seed in range(300):
        for part in parts(compilable_case(seed).scenario):
            for field in dataclasses.fields(part):
                key = type(part).__name__, field.name
                seen.setdefault(key, set()).add(repr(getattr(part, field.name)))
    varied = {key for key, values in seen.items() if len(values) > 1}
    fixed = {(SECTIONS.get(section, section.title()), name) for section, names in _ONLY.items() for name in names}
    idle = {(kind, name) for kind, names in WITHOUT_EFFECT.items() for name in names}
    idle |= {(kind, name) for kind, names in SAME_IN_ALL_EXAMPLES.items() for name in names}
    kinds = [getattr(dsd_gym.scenario, name) for name in dsd_gym.scenario.__all__]
    every = {(k.__name__, f.name) for k in kinds if k.__name__ not in REFUSED_WHOLE for f in dataclasses.fields(k)}
    assert not every - varied - fixed - idle, "neither refused nor exercised by tests/test_vector_equality.py"
    assert not (fixed | idle) - every, "no such setting"
    assert not varied & fixed


# --- families -------------------------------------------------------------------------------------------------------


def family(tmp_path: Path, ranges: str) -> Family:
    path = tmp_path / "drawn.yaml"
    path.write_text(f"workload: {{rate_per_s: 4.0}}\nhorizon_ms: 6000\nranges: {ranges}\n", encoding="utf-8")
    loaded = load_scenario_or_family(path)
    assert isinstance(loaded, Family)
    return loaded


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        ("[{key: targets.0.padded, choice: [false, true]}]", "targets.0.padded: True"),
        ("[{choice: [{link.rtt_ms: 5}, {link.rtt_ms: 9, link.loss: 0.1}]}]", "link.loss: 0.1"),
        ("[{key: targets.0.batch_wait_ms, uniform: [0, 4]}]", "targets.0.batch_wait_ms: 4.0"),
        ("[{key: targets.0.count, uniform: [1, 4], integer: true}, {key: link.rtt_ms, log_uniform: [1, 9]}]", None),
    ],
)
def test_a_family_is_refused_for_what_it_might_draw(ranges: str, why: str | None, tmp_path: Path) -> None:
    drawn = family(tmp_path, ranges)
    assert unsupported(drawn) == why
    made = make_vec_env(drawn, 2, None)
    assert isinstance(made, CompiledVecEnv if why is None else SimulatedVecEnv)
    if why is not None:
        with pytest.raises(ConfigError, match=f"drawn: {why} is not compiled"):
            EdgeCloudVectorEnv(2, drawn)


@pytest.mark.parametrize("name", ["train/family", "train/broad", "train/single"])
def test_the_training_scenarios_are_compiled(name: str) -> None:
    assert unsupported(load_scenario_or_family(name)) is None


def test_a_count_too_long_for_half_a_word_is_none_too_many() -> None:
    """A chunk that no answer fills lasts as long as one that all do: both are over when the answer is."""
    told = []
    for chunk_tokens in (10_000, 10**11):
        env = EdgeCloudVectorEnv(2, load_scenario("train/single", {"cloud.chunk_tokens": chunk_tokens}))
        env.reset(seed=0)
        told.append([env.step(np.zeros(2, np.int64))[1].tolist() for _ in range(50)])
    assert told[0] == told[1]


def test_more_requests_than_an_event_can_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_ENTRIES", 70)
    env = EdgeCloudVectorEnv(1, load_scenario("train/single", {"workload.load": 0.9}))
    with pytest.raises(ConfigError, match=r"a run needs \d+ requests; the compiled simulator takes 70 at most"):
        env.reset(seed=0)
