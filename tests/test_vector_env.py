"""The compiled vector environment: Gymnasium's contract, and `EdgeCloudEnv` step by step, resets included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

import dsd_gym  # noqa: F401 (registers the environment)
from dsd_gym.config import ConfigError
from dsd_gym.family import load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.records import Round
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, Scenario, TargetClass, Workload
from dsd_gym.vector.env import EdgeCloudVectorEnv
from dsd_gym.vector.layout import ROUND

ENV_ID = "dsd_gym/EdgeCloud-v0"
SHORT = {"horizon_ms": 2500.0, "warm_up_ms": 0.0, "lengths.output_mean": 12, "lengths.output_median": 10}
SMALL = Scenario(
    name="small",
    edges=(EdgeClass(count=4),),
    targets=(TargetClass(count=2),),
    workload=Workload(rate_per_s=3.0),
    lengths=Lengths(100, 80, 10, 6),
    acceptance=Acceptance("constant", 0.7),
    warm_up_ms=0.0,
    horizon_ms=1500.0,
)
SOURCES = {
    "scenario": SMALL,
    "cut": replace(SMALL, drain_ms=100.0),
    "a request at most": replace(SMALL, workload=Workload(rate_per_s=0.8)),
    "often one token": replace(SMALL, lengths=Lengths(100, 80, 2, 1)),
    "closed": replace(SMALL, workload=Workload("closed", users=3, think_ms=200.0)),
    "file": "held_out/lan_lab",
    "family": load_scenario_or_family("train/family", SHORT),
}
COUNT = 5


def both(source: Any, count: int = COUNT, **options: Any) -> tuple[VectorEnv[Any, Any, Any], VectorEnv[Any, Any, Any]]:
    """Return the compiled environment and Gymnasium's own, over the simulator."""
    compiled = gymnasium.make_vec(
        ENV_ID, num_envs=count, vectorization_mode="vector_entry_point", scenario=source, **options
    )
    simulated = gymnasium.make_vec(
        ENV_ID,
        num_envs=count,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        scenario=source,
        **options,
    )
    return compiled, simulated


def assert_same_infos(ours: dict[str, Any], theirs: dict[str, Any], over: np.ndarray[Any, Any]) -> None:
    """Assert that one deployment after another tells the same of itself."""
    for name in ("stream", "time_ms", "reference_ms"):
        assert ours[name].tolist() == theirs[name].tolist()
    for place in range(len(over)):
        told = {name: ours[name][ours[name]["deployment"] == place] for name in ("rounds", "begun", "ended")}
        final = {name: theirs["final_info" if over[place] else name] for name in told}
        last = {name: rows[name][place] if over[place] else rows[place] for name, rows in final.items()}
        assert told["rounds"][list(Round._fields)].tolist() == [tuple(round) for round in last["rounds"]]
        assert told["begun"][["stream", "device", "target"]].tolist() == last["begun"]
        assert told["ended"]["stream"].tolist() == [request.stream for request in last["ended"]]
        if over[place]:
            assert ours["final_info"]["time_ms"][place] == theirs["final_info"]["time_ms"][place]
            begun, ended = (ours[name][ours[name]["deployment"] == place] for name in ("begun_anew", "ended_anew"))
            assert begun[["stream", "device", "target"]].tolist() == theirs["begun"][place]
            assert ended["stream"].tolist() == [request.stream for request in theirs["ended"][place]]


@pytest.mark.parametrize("thresholds", [None, (0.0, 0.3, 0.9)])
@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_equals_the_simulators_environments_step_by_step(source: Any, thresholds: tuple[float, ...] | None) -> None:
    compiled, simulated = both(source, stop_thresholds=thresholds)
    assert compiled.action_space == simulated.action_space
    assert compiled.observation_space == simulated.observation_space
    assert compiled.metadata["autoreset_mode"] == simulated.metadata["autoreset_mode"]
    (observed, info), (seen, told) = compiled.reset(seed=11), simulated.reset(seed=11)
    np.testing.assert_array_equal(observed, seen)
    assert observed.dtype == np.float32 and info["stream"].tolist() == told["stream"].tolist()
    compiled.action_space.seed(3)
    resets = 0
    for _ in range(250):
        actions = compiled.action_space.sample()
        ours, theirs = compiled.step(actions), simulated.step(actions)
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
        over = ours[2] | ours[3]
        assert_same_infos(ours[4], theirs[4], over)
        assert over.any() == ("final_obs" in ours[4])
        for place in np.flatnonzero(over):
            np.testing.assert_array_equal(ours[4]["final_obs"][place], theirs[4]["final_obs"][place])
            assert ours[4]["_final_obs"][place]
        resets += int(over.sum())
    assert resets > 3 or source == "held_out/lan_lab"


def test_ends_by_truncation_where_requests_are_left_behind() -> None:
    for source, truncation in ((SOURCES["cut"], True), (SMALL, False)):
        env = EdgeCloudVectorEnv(COUNT, source)
        env.reset(seed=0)
        told = [env.step(np.full(COUNT, 2))[2:4] for _ in range(300)]
        terminated, truncated = (np.array(flags) for flags in zip(*told, strict=True))
        assert truncated.any() == truncation
        assert terminated.any()
        assert not (terminated & truncated).any()


def test_the_first_reward_has_the_wait_for_the_first_question() -> None:
    """One user who never pauses: one request lives all the time, so rewards so far are minus the time so far."""
    env = EdgeCloudVectorEnv(2, replace(SMALL, workload=Workload("closed", users=1)))
    _, info = env.reset(seed=4)
    assert (info["time_ms"] > 0.0).all()
    total = np.zeros(2)
    for _ in range(6):
        _, rewards, _, _, info = env.step(np.array([3, 0]))
        total += rewards
        np.testing.assert_allclose(total, -info["time_ms"] / info["reference_ms"], rtol=1e-12)


# --- reset ----------------------------------------------------------------------------------------------------------


def test_a_mask_resets_those_that_it_names_and_no_others() -> None:
    compiled, simulated = both(SMALL)
    mask = np.array([True, False, True, False, False])
    actions = np.random.default_rng(0).integers(0, 6, (60, COUNT))
    for env in (compiled, simulated):
        env.reset(seed=7)
    for step, chosen in enumerate(actions):
        ours, theirs = compiled.step(chosen), simulated.step(chosen)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
        if step % 9 == 8:
            seed = [100 + step, None, None, None, 5] if step % 2 else None
            seen, info = compiled.reset(seed=seed, options={"reset_mask": mask.copy()})
            other, told = simulated.reset(seed=seed, options={"reset_mask": mask.copy()})
            np.testing.assert_array_equal(seen, other)
            np.testing.assert_array_equal(seen[~mask], ours[0][~mask])
            assert set(info["begun"]["deployment"]) == {0, 2}
            assert_same_beginnings(info, told, np.flatnonzero(mask))


def assert_same_beginnings(ours: dict[str, Any], theirs: dict[str, Any], places: Iterable[int]) -> None:
    """Assert that one deployment after another tells the same of what came before its first question."""
    for place in places:
        begun, ended = (ours[name][ours[name]["deployment"] == place]["stream"].tolist() for name in ("begun", "ended"))
        assert begun == [stream for stream, *_ in theirs["begun"][place]]
        assert ended == [request.stream for request in theirs["ended"][place]]


def test_a_reset_tells_all_that_came_before_the_first_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one token end without a question, and runs of few requests are drawn again where nobody asks."""
    compiled, simulated = both(replace(SMALL, workload=Workload(rate_per_s=2.0), lengths=Lengths(100, 80, 2, 1)))
    loaded, load = list[int](), compiled._fleet.load
    monkeypatch.setattr(compiled._fleet, "load", lambda place, *run: (loaded.append(place), load(place, *run)))
    resets, ended = 40, 0
    for seed in range(resets):
        (_, ours), (_, theirs) = compiled.reset(seed=seed), simulated.reset(seed=seed)
        assert_same_beginnings(ours, theirs, range(COUNT))
        ended += len(ours["ended"])
    assert len(loaded) > resets * COUNT + 5 and ended > 20


@pytest.mark.parametrize(
    "mask", [np.zeros(3, np.bool_), np.ones(2, np.bool_), np.ones(3, np.int64), np.ones((3, 1), np.bool_)]
)
def test_a_mask_of_another_shape_or_kind_is_refused(mask: np.ndarray[Any, Any]) -> None:
    env = EdgeCloudVectorEnv(3, SMALL)
    with pytest.raises(ValueError, match="reset_mask must be 3 truth values"):
        env.reset(options={"reset_mask": mask})


def test_a_step_before_all_have_been_reset_is_refused() -> None:
    env = EdgeCloudVectorEnv(2, SMALL)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.int64))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.int64))
    env.reset(options={"reset_mask": np.array([False, True])})
    env.step(np.zeros(2, np.int64))


def played(env: EdgeCloudVectorEnv, seed: Any) -> list[Any]:
    """Return what is seen under one window, resets included."""
    told = [env.reset(seed=seed)[0].tolist()]
    for _ in range(80):
        told += [part.tolist() for part in env.step(np.full(env.num_envs, 2))[:2]]
    return told


def test_the_same_seeds_give_the_same_deployments() -> None:
    env = EdgeCloudVectorEnv(3, SOURCES["family"])
    first = played(env, 5)
    assert played(env, 5) == first == played(EdgeCloudVectorEnv(3, SOURCES["family"]), [5, 6, 7])
    assert played(env, np.int64(5)) == first
    assert played(env, 6) != first
    assert played(env, None) != played(env, None)
    one = np.array(EdgeCloudVectorEnv(1, SOURCES["family"]).reset(seed=6)[0])
    np.testing.assert_array_equal(one[0], env.reset(seed=5)[0][1])
    with pytest.raises(ValueError, match="3 deployments need as many seeds, not 2"):
        env.reset(seed=[1, 2])


# --- step -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thresholds", "actions", "why"),
    [
        (None, [1, 13], r"window 13 is outside 0\.\.12"),
        (None, [-1, 0], r"window -1 is outside 0\.\.12"),
        (None, [1], r"integers of shape \(2,\)"),
        (None, 1, r"integers of shape \(2,\)"),
        (None, [1.0, 2.0], r"integers of shape \(2,\)"),
        ((0.0, 0.5), [1, 2], r"integers of shape \(2, 2\)"),
        ((0.0, 0.5), [[1, 1], [1, 2]], r"a threshold is outside 0\.\.1"),
        ((0.0, 0.5), [[1, -1], [1, 0]], r"a threshold is outside 0\.\.1"),
    ],
)
def test_a_bad_action_is_refused_and_nothing_happens(
    thresholds: tuple[float, ...] | None, actions: Any, why: str
) -> None:
    env, untouched = (EdgeCloudVectorEnv(2, SMALL, stop_thresholds=thresholds) for _ in range(2))
    for each in (env, untouched):
        each.reset(seed=0)
    with pytest.raises(ValueError, match=why):
        env.step(np.array(actions))
    good = np.ones_like(env.action_space.sample())
    np.testing.assert_array_equal(env.step(good)[0], untouched.step(good)[0])


def test_what_is_returned_is_never_written_over() -> None:
    env = EdgeCloudVectorEnv(COUNT, SOURCES["family"])
    kept = [(env.reset(seed=1)[0],)]
    copies = [tuple(part.copy() for part in kept[0])]
    for _ in range(60):
        kept.append(env.step(np.full(COUNT, 4))[:4])
        copies.append(tuple(part.copy() for part in kept[-1]))
    for parts, before in zip(kept, copies, strict=True):
        for part, copy in zip(parts, before, strict=True):
            np.testing.assert_array_equal(part, copy)
    assert not any(np.shares_memory(one[0], other[0]) for one, other in pairwise(kept))


def test_one_environment_is_made_of_the_scenario_that_a_file_holds() -> None:
    env = gymnasium.make_vec(ENV_ID, num_envs=2, vectorization_mode="vector_entry_point", scenario="held_out/mobile_4g")
    assert isinstance(env, EdgeCloudVectorEnv) and env.spec is not None and env.render_mode is None
    assert env.reset(seed=0)[0].shape == (2, len(FEATURE_NAMES))
    assert env.step(np.array([4, 0]))[4]["rounds"].dtype == ROUND


def test_a_deployment_in_which_nobody_ever_asks_is_named() -> None:
    silent = replace(SMALL, workload=Workload(rate_per_s=1e-9))
    with pytest.raises(ConfigError, match="small: nobody ever asks"):
        EdgeCloudVectorEnv(2, silent).reset()


@pytest.mark.parametrize("thresholds", [(), (0.5, 1.5)])
def test_thresholds_outside_0_to_1_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="stop_thresholds must be numbers from 0 to 1"):
        EdgeCloudVectorEnv(2, SMALL, stop_thresholds=thresholds)
