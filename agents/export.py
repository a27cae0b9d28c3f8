"""From a stable-baselines3 learner to a policy file, and back for a warm start."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parametrize

from agents.network import VisibleFeatures, WindowPolicy, action_sizes
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig
from dsd_gym import __version__, config
from dsd_gym.config import ConfigError
from dsd_gym.observation import Feature, unscaled_feature
from policies import Layer, Policy, PolicyError, PolicyHeader, load_policy
from policies.kinds import KINDS

_COUNTED = ("tokens", "requests", "flag")
_SHARE_STEPS = 1000


def export_policy(
    model: StreamPPO,
    train_config: TrainConfig,
    scenario_ranges: dict[str, Any],
    command: str,
    evaluation: dict[str, Any] | None = None,
) -> Policy:
    """Return the learner's actor as a policy, with all that its header tells of where it comes from."""
    kind = KINDS[train_config.kind]
    scaling = kind.scaling()
    header = PolicyHeader(
        kind=train_config.kind,
        feature_names=tuple(scaling),
        feature_scaling=scaling,
        max_window=action_sizes(model.action_space)[0] - 1,
        stop_thresholds=train_config.stop_thresholds,
        activation=train_config.ppo.activation,
        feature_ranges={
            name: (_bound(feature, float(low), floor), _bound(feature, float(high), ceil))
            for (name, feature), low, high in zip(kind.features.items(), model.lows, model.highs, strict=True)
        },
        scenario_ranges=scenario_ranges,
        training_config=config.to_dict(train_config),
        config_hash=config.config_hash(train_config),
        seed=train_config.seed,
        package_version=__version__,
        command=command,
        evaluation=evaluation or {},
    )
    layers = _layers(_policy(model).averaged)
    weights = [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in layers]
    weights[0] = (weights[0][0] * _visible(model), weights[0][1])
    return Policy(header, tuple(Layer(*pair) for pair in weights))


def warm_start(model: StreamPPO, train_config: TrainConfig) -> None:
    """Set the learner's weights from a checkpoint, or its actor's from an exported policy; ConfigError if unfit."""
    path, activation = train_config.warm_start or "", train_config.ppo.activation
    if not Path(path).is_file():
        raise ConfigError(f"warm_start: {path}: no such file")
    if path.endswith(".zip"):
        try:
            model.set_parameters(path, device="cpu")
        except (ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(f"warm_start: {path}: not a checkpoint of this network ({error})") from None
        return
    try:
        policy = load_policy(path)
    except PolicyError as error:
        raise ConfigError(f"warm_start: {error}") from None
    if policy.header.kind != train_config.kind:
        wanted = f"this run trains {train_config.kind} (inputs={train_config.inputs})"
        raise ConfigError(f"warm_start: {path}: its kind is {policy.header.kind}; {wanted}")
    if policy.header.stop_thresholds != train_config.stop_thresholds:
        raise ConfigError(f"warm_start: {path}: its stop thresholds are {list(policy.header.stop_thresholds)}")
    layers, actor = policy.layers, _layers(_policy(model).actor())
    if policy.header.activation != activation:
        raise ConfigError(f"warm_start: {path}: its activation is {policy.header.activation}, not {activation}")
    if [tuple(m.weight.shape) for m in actor] != [layer.weight.shape for layer in layers]:
        raise ConfigError(f"warm_start: {path}: its layers do not fit ppo.hidden and max_window of this run")
    with torch.no_grad():
        for module, layer in zip(actor, layers, strict=True):
            weight = torch.from_numpy(layer.weight.copy())
            if parametrize.is_parametrized(module):
                module.weight = weight  # that is, the coefficients nearest to it
            else:
                module.weight.copy_(weight)
            if not torch.allclose(module.weight, weight, atol=1e-4):
                raise ConfigError(f"warm_start: {path}: its last layer is not smooth over windows")
            module.bias.copy_(torch.from_numpy(layer.bias.copy()))
    _policy(model).averaged.update_parameters(_policy(model).actor())


def _bound(feature: Feature, scaled: float, outwards: Callable[[float], int]) -> float:
    """Return the end of a range in the feature's own unit, whatever the mean is of what rollouts met: of what is
    counted a whole number, of a share the next thousandth, so that one of almost all takes in all."""
    bound = unscaled_feature(scaled, feature.high, feature.knee or 0.0)
    if feature.unit in _COUNTED:
        return float(round(bound))
    return outwards(bound * _SHARE_STEPS) / _SHARE_STEPS if feature.knee is None else bound


def _visible(model: StreamPPO) -> NDArray[np.float32]:
    """Return 1 for each input that the learner has seen, 0 for those hidden from it."""
    extractor = model.policy.features_extractor
    assert isinstance(extractor, VisibleFeatures)
    return extractor.visible.numpy()[: _policy(model).inputs]


def _policy(model: StreamPPO) -> WindowPolicy:
    assert isinstance(model.policy, WindowPolicy)
    return model.policy


def _layers(actor: nn.Module) -> list[nn.Linear]:
    """Return the linear layers from features to logits."""
    return [module for module in actor.modules() if isinstance(module, nn.Linear)]
