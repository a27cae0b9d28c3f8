"""What the critic alone is told: it is true, it changes nothing, and the policy that is exported cannot see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from twins import compilable_case

from agents.export import export_policy
from agents.train_config import Ppo, TrainConfig
from agents.training import make_learner
from dsd_gym.acceptance import accepted_run
from dsd_gym.records import Decision
from dsd_gym.simulator import Simulation
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.foresight import _FAR, _NEAR, FORESIGHT, MOST_RUN
from dsd_gym.vector.loading import Deployment
from policies.kinds import KINDS, PRICED

CASES = [compilable_case(seed) for seed in range(12)]
INPUTS = len(KINDS[PRICED].features)
SMALL = TrainConfig(
    name="small", scenario="train/single", imitation=0, ppo=Ppo(n_envs=4, rollout_steps=16, minibatch=32)
)


def fleet_of(foresight: bool) -> Fleet:
    fleet = Fleet(len(CASES), foresight)
    for place, case in enumerate(CASES):
        fleet.load(place, Deployment(case.scenario), case.seed)
    fleet.start(np.arange(len(CASES)))
    return fleet


def test_tells_what_the_simulator_knows_of_each_question() -> None:
    fleet, simulations = fleet_of(True), [Simulation(case.scenario, case.seed) for case in CASES]
    asked = 0
    while not fleet.over.all():
        for place in np.flatnonzero(~fleet.over):
            ask, simulation = simulations[place].next_decision(), simulations[place]
            assert ask is not None
            request, told = simulation.live[ask.stream], dict(zip(FORESIGHT, fleet.ahead[place], strict=True))
            left = request.arrival.output_tokens - request.committed
            flags = list(request.tape.accepted[request.committed : request.committed + min(left, _FAR)])
            assert told["run_ahead"] == min(accepted_run([*flags, False], 0, _FAR), MOST_RUN) / MOST_RUN
            assert told["accepted_near"] == sum(flags[:_NEAR]) / _NEAR
            assert told["accepted_far"] == sum(flags) / _FAR
            assert min(told.values()) >= 0.0 and max(told.values()) <= 1.0
            simulation.answer(Decision(1))
            asked += 1
        fleet.answer(np.ones(len(CASES), np.int64))
    assert asked > 200


def test_looking_ahead_changes_nothing() -> None:
    blind, informed = fleet_of(False), fleet_of(True)
    random = np.random.default_rng(0)
    while not blind.over.all():
        np.testing.assert_array_equal(blind.seen, informed.seen)
        np.testing.assert_array_equal(blind.rounds, informed.rounds)
        windows = random.integers(0, 2, len(CASES))
        blind.answer(windows)
        informed.answer(windows)
    assert informed.over.all()


def test_the_actor_does_not_see_it_and_the_critic_does(tmp_path: Path) -> None:
    model = make_learner(SMALL, tmp_path, resume=False)
    seen = torch.rand(8, INPUTS + len(FORESIGHT) + 1)
    other = seen.clone()
    other[:, INPUTS:] = torch.rand(8, len(FORESIGHT) + 1)
    with torch.no_grad():
        first, second = model.policy.get_distribution(seen), model.policy.get_distribution(other)
        assert torch.equal(first.mode(), second.mode())
        assert torch.equal(first.log_prob(torch.ones(8)), second.log_prob(torch.ones(8)))
        assert not torch.allclose(model.policy.predict_values(seen), model.policy.predict_values(other))
    model.restore_ranges([0.0] * INPUTS, [1.0] * INPUTS)
    policy = export_policy(model, SMALL, {}, "")
    assert policy.layers[0].weight.shape[1] == INPUTS
