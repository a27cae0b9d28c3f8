"""Policies that remember: they see the last rounds of a request one by one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from observed import observed
from test_policies import make_header, make_layers
from test_training import quick, trained
from test_vec_env_sb3 import COUNT, SMALL
from test_vector_rules import observations

from agents.export import export_policy
from agents.learned import Stacked, learned_controller
from agents.stacked_env import StackedVecEnv
from agents.train_config import scenario_ranges
from agents.vec_env import make_vec_env
from dsd_gym.observation import FEATURE_NAMES, FEATURES, MAX_WINDOW, Observation, scaled, to_raw
from dsd_gym.priced_inputs import ASKED
from dsd_gym.records import Decision
from dsd_gym.scenario import Lengths, Scenario
from dsd_gym.simulator import simulate
from dsd_gym.vector.running import simulate_all
from policies import STACKED, Policy, PolicyError, PolicyHeader, load_policy, save_policy
from policies.kinds import KINDS
from policies.past_rounds import NO_ROUNDS, PAST_INPUTS, ROUNDS, after, after_many

ALL = ASKED | PAST_INPUTS
CLOUD = {"has_last_confidence": False, "last_mean_confidence": 0.0, "cloud_mode": True}
WINDOWS = [FEATURE_NAMES.index("last_window"), FEATURE_NAMES.index("last_accepted")]
WAITING = replace(SMALL, targets=(replace(SMALL.targets[0], batch_wait_ms=1.0),))


def make_stacked(*hidden: int, past_alone: bool = False) -> Policy:
    """Return a policy with weights drawn by chance; it may heed nothing but the past rounds."""
    header = make_header(
        kind=STACKED,
        feature_names=tuple(ALL),
        feature_scaling=KINDS[STACKED].scaling(),
        feature_ranges={name: (0.0, feature.high) for name, feature in ALL.items()},
    )
    layers = make_layers(len(ALL), *hidden, header.max_window + 1)
    if past_alone:
        layers[0].weight[:, : len(ASKED)] = 0.0
    return Policy(header, layers)


def shown(past: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(PAST_INPUTS, past, strict=True))


def test_rounds_are_kept_one_by_one_the_latest_first() -> None:
    first = observed(last_window=4, last_accepted=3, last_mean_confidence=0.5)
    second = observed(last_window=8, last_accepted=8, last_mean_confidence=0.75)
    past = shown(after(after(NO_ROUNDS, first), second))
    assert (past["window_1"], past["accepted_1"], past["confidence_1"]) == (0.5, 0.5, 0.75)
    assert (past["window_2"], past["accepted_2"], past["confidence_2"]) == (0.25, 3 / 16, 0.5)
    assert set(list(past.values())[6:]) == {0.0}


def test_cloud_decoding_adds_no_round_and_hides_none() -> None:
    one = after(NO_ROUNDS, observed())
    assert after(one, observed(**CLOUD)) == one != NO_ROUNDS
    assert after(NO_ROUNDS, observed(has_last_round=False, **CLOUD)) == NO_ROUNDS


def test_what_is_longer_ago_than_that_is_forgotten() -> None:
    past = NO_ROUNDS
    for window in range(1, ROUNDS + 4):
        past = after(past, observed(last_window=window, last_accepted=0))
    kept = shown(past)
    assert [16 * kept[f"window_{back}"] for back in range(1, ROUNDS + 1)] == list(range(ROUNDS + 3, 3, -1))


def test_many_requests_are_followed_as_each_alone_to_the_bit() -> None:
    alone, many = [NO_ROUNDS] * 50, np.zeros((50, len(NO_ROUNDS)), np.float32)
    for seen in np.split(observations(50 * 2 * ROUNDS), 2 * ROUNDS):
        seen[:, WINDOWS] = np.minimum(seen[:, WINDOWS], MAX_WINDOW)
        alone = [after(past, Observation(*row)) for past, row in zip(alone, seen.tolist(), strict=True)]
        many = after_many(many, scaled(seen))
        np.testing.assert_array_equal(many, np.array(alone, np.float32))
    assert (many > 0.0).any(axis=0).all()


def test_each_request_is_decided_on_its_own_rounds_until_it_ends() -> None:
    policy = make_stacked(16, past_alone=True)
    controller, fresh = learned_controller(policy), learned_controller(policy)
    assert isinstance(controller, Stacked)
    moments = [observed(last_window=window, last_accepted=window % 5) for window in range(1, 13)]
    alone = [controller.decide(moment, 7) for moment in moments]
    assert len(set(alone)) > 2
    between = [(fresh.decide(observed(), 1), fresh.decide(moment, 7))[1] for moment in moments]
    assert between == alone
    controller.forget(7)
    assert [controller.decide(moment, 7) for moment in moments] == alone
    controller.forget(8)  # one that never asked


def test_what_lies_far_outside_is_left_to_the_rule() -> None:
    header = make_stacked(4).header
    narrow = replace(header, feature_ranges={**header.feature_ranges, "smoothed_rtt_ms": (400.0, 500.0)})
    always_cloud = make_stacked(4).layers
    always_cloud[-1].weight[:], always_cloud[-1].bias[:] = 0.0, 0.0
    assert learned_controller(Policy(header, always_cloud)).decide(observed(), 0).window == 0
    assert learned_controller(Policy(narrow, always_cloud)).decide(observed(), 0).window > 0


def test_a_file_holds_it_and_a_format_before_had_none(tmp_path: Path) -> None:
    save_policy(make_stacked(8), tmp_path / "p.safetensors")
    policy = load_policy(tmp_path / "p.safetensors")
    assert policy.widths == (len(FEATURES) + 13 + 3 * ROUNDS, 8, policy.header.max_window + 1)
    with pytest.raises(PolicyError, match="unknown kind 'stacked' of format 5"):
        PolicyHeader.from_dict(asdict(policy.header) | {"format_version": 5})


@pytest.mark.parametrize("scenario", [SMALL, WAITING], ids=["compiled", "simulated"])
def test_deployments_show_what_a_controller_remembers(scenario: Scenario) -> None:
    """Over many episodes, whose requests bear the same numbers again."""
    policy = make_stacked(16, past_alone=True)
    env = StackedVecEnv(make_vec_env(scenario, COUNT, None, priced=True))
    controllers = [learned_controller(policy) for _ in range(COUNT)]
    env.action_space.seed(0)
    env.seed(3)
    seen, episodes, met = env.reset(), 0, set[tuple[int, int]]()
    for _ in range(400):
        assert isinstance(seen, np.ndarray) and seen.shape == (COUNT, len(ALL))
        for place, (row, stream) in enumerate(zip(seen, env.streams.tolist(), strict=True)):
            told = Observation(*to_raw(row[None, : len(FEATURE_NAMES)])[0].tolist())
            expected = controllers[place].runner.logits(row)
            assert controllers[place].decide(told, stream) == Decision(int(expected.argmax()))
            met.add((place, stream))
        seen, _, dones, infos = env.step(np.array([env.action_space.sample() for _ in range(COUNT)]))
        for place in np.flatnonzero(dones):
            controllers[place] = learned_controller(policy)
            assert infos[place]["terminal_observation"].shape == (len(ALL),)
            episodes += 1
    assert episodes > 5 and len(met) > 10


def test_the_twin_asks_it_as_the_simulator_does() -> None:
    policy = make_stacked(16, past_alone=True)
    policy.layers[-1].bias[0] = -100.0  # never the cloud
    longer = replace(SMALL, lengths=Lengths(100, 80, 60, 50), horizon_ms=6000.0)
    ((_, compiled),) = simulate_all([(longer, 1)], lambda: learned_controller(policy))
    simulated = simulate(longer, learned_controller(policy), seed=1)
    assert list(compiled.rounds) == list(simulated.rounds)
    assert len({round.window for round in simulated.rounds}) > 2


def test_it_is_trained_and_exported(tmp_path: Path) -> None:
    config = quick(inputs="stacked", imitation=256)
    model = trained(config, tmp_path)
    policy = export_policy(model, config, scenario_ranges(config), "train.py")
    assert policy.header.kind == STACKED
    low, high = policy.header.feature_ranges["confidence_8"]
    assert 0.0 <= low < high <= 1.0
    assert np.abs(policy.layers[0].weight[:, len(ASKED) :]).sum() > 0.0
    learned_controller(policy).decide(observed(), 0)
