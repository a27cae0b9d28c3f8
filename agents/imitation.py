"""Behaviour cloning of a rule: learning begins with sense, and a choice that pays late is not given up.

A policy that cannot yet stay in cloud mode finds it costly to enter, may stop trying, and then does not come back to it
when it could stay: from scratch the worst deployments come out worse, the mean does not (docs/training.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax

from agents.awc import CLOUD_MARGIN, PRICE
from agents.network import WindowPolicy, action_sizes
from agents.ppo import StreamPPO
from agents.rows import windows_of
from dsd_gym.observation import FEATURE_NAMES, to_raw
from dsd_gym.pricing import best_window

SPREAD = 1.0
"""Windows at the edge to which a target spreads around the rule's own."""
DOUBT = 0.1
"""Share of a target that goes to the other of cloud and edge."""
STRAY = 0.2
"""Share of the decisions along the way that are random, so that more is met than the rule meets."""
EPOCHS, MINIBATCH, LEARNING_RATE = 4, 2048, 3e-3


def imitate(model: StreamPPO, decisions: int, seed: int) -> float:
    """Fit the actor to `awc`'s predictor over so many decisions in its deployments; return the share it agrees on."""
    assert isinstance(model.policy, WindowPolicy) and model.env is not None
    windows, thresholds = action_sizes(model.action_space)
    random = np.random.default_rng(seed)
    seen, answers = _met(model, decisions, windows, thresholds, random)
    targets = torch.from_numpy(_targets(windows)[answers])
    actor = model.policy.actor()
    optimizer = torch.optim.Adam(actor.parameters(), LEARNING_RATE)
    observations = model.policy.features_extractor(torch.from_numpy(seen))[:, : model.policy.inputs]
    for _ in range(EPOCHS):
        for rows in np.array_split(random.permutation(len(seen)), -(-len(seen) // MINIBATCH)):
            logs = log_softmax(actor(observations[rows])[:, :windows], dim=-1)
            loss = -(targets[rows] * logs).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.policy.averaged.update_parameters(actor)
    with torch.no_grad():
        chosen = actor(observations)[:, :windows].argmax(-1).numpy()
    return float((chosen == answers).mean())


def _met(
    model: StreamPPO, decisions: int, windows: int, thresholds: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return observations (n, width) on the way of the rule, and what it answered to each."""
    env = model.env
    assert env is not None
    seen, answers = [], []
    observations = env.reset()
    for _ in range(max(1, decisions // env.num_envs)):
        assert isinstance(observations, np.ndarray)
        features = to_raw(observations[:, : len(FEATURE_NAMES)])
        answer = windows_of(best_window, features, windows - 1, PRICE, CLOUD_MARGIN)
        seen.append(observations)
        answers.append(answer)
        strays = random.random(env.num_envs) < STRAY
        chosen = np.where(strays, random.integers(0, windows, env.num_envs), answer)
        if thresholds:
            chosen = np.stack([chosen, random.integers(0, thresholds, env.num_envs)], axis=1)
        observations, *_ = env.step(chosen)
    return np.concatenate(seen), np.concatenate(answers)


def _targets(windows: int) -> NDArray[np.float32]:
    """Return what the policy is to be for each answer of the rule, (windows, windows): sure of it, but not blind."""
    edge = np.arange(1, windows)
    near = np.exp(-0.5 * ((edge[:, None] - edge[None, :]) / SPREAD) ** 2)
    targets = np.zeros((windows, windows), np.float32)
    targets[0, 0], targets[0, 1:] = 1.0 - DOUBT, DOUBT / len(edge)
    targets[1:, 0] = DOUBT
    targets[1:, 1:] = (1.0 - DOUBT) * near / near.sum(axis=1, keepdims=True)
    return targets
