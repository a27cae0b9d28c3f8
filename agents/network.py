"""The actor-critic network: stable-baselines3's, with logits that vary smoothly from window to window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.categorical import LogCategorical
from dsd_gym.observation import FEATURES

DEGREE = 3
GAIN = 3.0
"""How far one step of the optimiser moves a logit, relative to a plain linear layer."""


class SmoothWindows(nn.Module):
    """Weights of the last layer as a few coefficients: cloud or edge, and a cubic in the window at the edge.

    Windows 5 and 6 differ little in what they cost, and less than chance does. A layer with free weights for every
    window has to tell each from its neighbour by itself; here every decision at the edge teaches the same slope and
    curvature. The product is an ordinary linear layer, and is exported as one. Only offsets, which see no feature,
    are free. Logits of stop thresholds, where an action has them, follow those of the windows and are free too.
    """

    basis: torch.Tensor

    def __init__(self, windows: int, thresholds: int = 0) -> None:
        super().__init__()
        basis = np.zeros((windows + thresholds, DEGREE + 1 + thresholds))
        basis[0, 0] = 1.0
        places = np.linspace(-1.0, 1.0, windows - 1)
        basis[1:windows, 1 : DEGREE + 1] = np.polynomial.legendre.legvander(places, DEGREE)[:, 1:]
        basis[windows:, DEGREE + 1 :] = np.eye(thresholds) / GAIN  # as in a plain layer
        self.register_buffer("basis", torch.tensor(GAIN * basis, dtype=torch.float32))

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the weights, a row for each output, of coefficients (DEGREE + 1 + thresholds, inputs)."""
        return self.basis @ coefficients

    def right_inverse(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the coefficients whose weights come nearest."""
        coefficients: torch.Tensor = torch.linalg.pinv(self.basis) @ weights
        return coefficients


class VisibleFeatures(BaseFeaturesExtractor):
    """Observations as they are, but for features that are hidden: those are 0 always."""

    visible: torch.Tensor

    def __init__(self, observation_space: spaces.Box, hidden: Sequence[int] = ()) -> None:
        super().__init__(observation_space, observation_space.shape[0])
        visible = torch.ones(observation_space.shape[0])
        visible[list(hidden)] = 0.0
        self.register_buffer("visible", visible)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the observations, (n, features)."""
        return observations * self.visible


class OwnEyes(MlpExtractor):
    """Hidden layers of an actor that sees the first inputs alone, and of a critic that sees all (asymmetric)."""

    def __init__(
        self, width: int, seen: int, net_arch: Any, activation_fn: type[nn.Module], device: torch.device | str
    ) -> None:
        super().__init__(width, net_arch, activation_fn, device)
        self._seen = seen
        self.policy_net = MlpExtractor(seen, net_arch, activation_fn, device).policy_net

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Return the actor's last hidden layer, (n, neurons)."""
        hidden: torch.Tensor = self.policy_net(features[:, : self._seen])
        return hidden


class WindowPolicy(ActorCriticPolicy):
    """stable-baselines3's actor-critic with `SmoothWindows` in the actor's last layer.

    Observations may go on after the actor's `inputs` with what only the critic may know. `averaged` follows the actor's
    weights as an exponential moving average, in which each update's count 1 - `averaging` (0: it is the actor).
    """

    averaged: AveragedModel

    def __init__(self, *args: Any, inputs: int = len(FEATURES), averaging: float = 0.0, **kwargs: Any) -> None:
        self.inputs = inputs
        self._averaging = averaging
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = OwnEyes(self.features_dim, self.inputs, self.net_arch, self.activation_fn, self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_net, nn.Linear)
        windows, thresholds = action_sizes(self.action_space)
        if not thresholds:
            self.action_dist = LogCategorical(windows)
        smooth = SmoothWindows(windows, thresholds)
        parametrize.register_parametrization(self.action_net, "weight", smooth)
        options: dict[str, Any] = self.optimizer_kwargs
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **options)  # type: ignore[call-arg]
        average: Any = get_ema_multi_avg_fn  # without types
        self.averaged = AveragedModel(self.actor(), multi_avg_fn=average(self._averaging))

    def actor(self) -> nn.Sequential:
        """Return the layers from features to logits."""
        return nn.Sequential(self.mlp_extractor.policy_net, self.action_net)


def action_sizes(space: spaces.Space[Any]) -> tuple[int, int]:
    """Return how many windows and stop thresholds an action chooses among."""
    if isinstance(space, spaces.MultiDiscrete):
        windows, thresholds = space.nvec.tolist()
        return windows, thresholds
    assert isinstance(space, spaces.Discrete)
    return int(space.n), 0
