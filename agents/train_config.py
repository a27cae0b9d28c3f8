"""One training run, described: YAML holds differences from these defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dsd_gym import config
from dsd_gym.config import Count, NonNegative, Positive

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "train"

Decay = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Ppo:
    """PPO as this project runs it: many deployments, large minibatches, few epochs."""

    n_envs: Count = 128
    """Deployments stepped side by side."""
    rollout_steps: Count = 128
    """Decisions of each deployment between updates."""
    minibatch: Annotated[int, Field(ge=2)] = 2048
    epochs: Count = 4
    learning_rate: Positive = 1e-3
    """Falls linearly to a tenth of this."""
    clip_range: Positive = 0.2
    entropy: NonNegative = 0.02
    """Weight of the entropy bonus; falls linearly to a tenth of this."""
    value_weight: NonNegative = 0.5
    hidden: tuple[Count, ...] = (64, 64)
    """Neurons of each hidden layer, of the policy and of the critic alike."""
    activation: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        if self.n_envs * self.rollout_steps < self.minibatch:
            raise ValueError(f"a rollout (n_envs x rollout_steps) must hold a minibatch of {self.minibatch}")


@dataclass(frozen=True)
class Credit:
    """How a decision is judged; see `agents.credit.StreamCredit`."""

    discount: Decay = 0.999
    """Per committed token."""
    trace_decay: Decay = 0.98
    """Lambda of generalised advantage estimation, per committed token."""
    externality_weight: NonNegative = 0.7
    """Price of the delay that a request's tokens put on the others in the batch or waiting."""


@dataclass(frozen=True)
class Comparison:
    """The held-out comparison at the end, and the shorter one along the way."""

    scenarios: Annotated[tuple[str, ...], Field(min_length=1)] = ("held_out",)
    controllers: tuple[str, ...] = ("static:4", "heuristic", "leviathan", "awc")
    seeds: Count = 2
    max_requests: Count | None = None
    score_every: Count = 1_000_000
    """Decisions between held-out scores in the log (one seed)."""


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, in what, for how long."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] = "ppo"
    scenario: str = "train/family"
    overrides: dict[str, Any] | None = None
    """Dotted keys of the scenario."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    decisions: Count = 3_000_000
    checkpoint_every: Count = 500_000
    warm_start: str | None = None
    """A checkpoint (.zip) or an exported policy (.safetensors) to begin from."""
    ppo: Ppo = Ppo()
    credit: Credit = Credit()
    comparison: Comparison = Comparison()


def load_train_config(path: str | Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Return a validated config; keys that begin with `scenario.` override the scenario's own."""
    file = Path(path) if path else CONFIG_FOLDER / "default.yaml"
    data = {"name": file.stem, **config.read_yaml(file)}
    of_scenario = {k.removeprefix("scenario."): v for k, v in overrides.items() if k.startswith("scenario.")}
    own = {k: v for k, v in overrides.items() if not k.startswith("scenario.")}
    merged = config.apply_overrides(data, own, defaults=config.to_dict(TrainConfig()))
    if of_scenario:
        merged["overrides"] = {**(merged.get("overrides") or {}), **of_scenario}
    return config.build(TrainConfig, merged, source=str(file))
