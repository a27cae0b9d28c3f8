"""One training run, described: YAML holds differences from these defaults."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dsd_gym import config
from dsd_gym.config import ConfigError, Count, NonNegative, Positive, Probability
from dsd_gym.config_errors import did_you_mean
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.scenario import Scenario
from policies import LOGITS, PRICED, STACKED

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "train"

Decay = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Ppo:
    """PPO as this project runs it: many deployments, large minibatches."""

    n_envs: Annotated[int, Field(gt=0, le=100_000)] = 128
    """Deployments stepped side by side."""
    rollout_steps: Annotated[int, Field(ge=2)] = 128
    """Decisions of each deployment between updates."""
    minibatch: Annotated[int, Field(ge=2)] = 2048
    epochs: Count = 8
    learning_rate: Positive = 1e-3
    """Falls linearly to a tenth of this."""
    clip_range: Positive = 0.2
    entropy: NonNegative = 0.01
    """Weight of the entropy bonus; falls linearly to a tenth of this."""
    value_weight: NonNegative = 0.5
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 64)
    """Neurons of each hidden layer, of the policy and of the critic alike."""
    activation: Literal["tanh", "relu"] = "tanh"
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """What is exported is the running average of the policy's weights; each update keeps this much of it."""

    def __post_init__(self) -> None:
        if self.n_envs * self.rollout_steps < self.minibatch:
            raise ValueError(f"a rollout (n_envs x rollout_steps) must hold a minibatch of {self.minibatch}")


@dataclass(frozen=True)
class Credit:
    """How a decision is judged; see `agents.credit.StreamCredit`."""

    discount: Decay = 0.9995
    trace_decay: Decay = 0.995
    """Lambda of generalised advantage estimation."""
    externality_weight: NonNegative = 1.0
    """Price of the delay that a request's tokens put on the others in the batch or waiting."""
    crowd: Positive | None = None
    """Requests in a pass that double this price (a busy target delays those still to come, too); None: it is flat."""
    span: Literal["token", "decision"] = "token"
    """What discount and trace decay are per: a committed token, or a decision however many it commits."""
    form: Literal["average", "discounted"] = "average"
    """Tokens less their cost at the deployment's average, or the cost alone."""
    relative_to: Literal["average", "reference"] = "average"
    """What costs are relative to: the deployment's running average, or its zero-load reference alone."""
    cost: Literal["own", "team"] = "own"
    """A round costs its own ms and what its externality is priced at, or the ms of all live requests meanwhile."""
    scaled_in: Literal["deployment", "all"] = "deployment"
    """Whether advantages are divided by their deviation in each deployment, so that all count alike, or in all."""
    chain: Literal["stream", "env"] = "stream"
    """Whether a decision is followed by its stream's next, or by whichever comes next in its deployment."""


@dataclass(frozen=True)
class FinalComparison:
    """The held-out comparison at the end."""

    scenarios: Annotated[tuple[str, ...], Field(min_length=1)] = ("held_out",)
    controllers: tuple[str, ...] = ("static:4", "heuristic", "leviathan", "awc")
    seeds: Count = 2
    max_requests: Count | None = None


@dataclass(frozen=True)
class Comparison(FinalComparison):
    """The same, and the shorter one along the way."""

    score_every: Count = 1_000_000
    """Decisions between held-out scores in the log (one seed)."""


@dataclass(frozen=True)
class Labels:
    """How the window regressor's labels are made; see `agents.labels`."""

    scenarios: Annotated[int, Field(ge=2)] = 2_000
    """Deployments drawn and swept; the paper has more than 2,000."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of them that training does not see: its loss and regret are told."""
    rows_per_window: Count = 4
    """Rows of inputs sampled from each window's run, and a pair's first decision beside them."""
    wandering_rows: Count = 16
    """Rows sampled where every pair goes to and fro between windows and the cloud."""
    miss_weight: Annotated[float, Field(ge=1)] = 2.0
    """What a request that misses an SLO counts for, against one that meets them."""
    horizon_ms: Positive = 20_000.0
    warm_up_ms: NonNegative = 2_000.0
    drain_ms: NonNegative = 20_000.0
    max_requests: Count = 40

    def __post_init__(self) -> None:
        if self.warm_up_ms >= self.horizon_ms:
            raise ValueError(f"warm_up_ms must be less than horizon_ms, which is {self.horizon_ms:g}")


@dataclass(frozen=True)
class Regressor:
    """The residual network and how it is fitted: L1 loss, AdamW."""

    width: Count = 64
    blocks: Count = 2
    epochs: Count = 100
    minibatch: Count = 512
    learning_rate: Positive = 1e-3
    """Falls to 0 along a cosine."""
    weight_decay: NonNegative = 1e-2


@dataclass(frozen=True)
class Training:
    """What every kind of training has: a name, deployments to learn in, others to be compared in."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] = "ppo"
    scenario: str = "train/broad"
    overrides: dict[str, Any] | None = None
    """Dotted keys of the scenario."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


@dataclass(frozen=True)
class TrainConfig(Training):
    """A controller learned by PPO: in what, for how long."""

    learner: Literal["ppo"] = "ppo"
    decisions: Count = 4_000_000
    stop_thresholds: tuple[Probability, ...] = ()
    """What the action's second dimension chooses among (`dsd_gym.env`); empty: the window alone."""
    critic: Literal["informed", "blind"] = "informed"
    """Whether the critic, which is not exported, knows the luck and the state that no edge could know, where the
    scenario is compiled (`dsd_gym.vector.foresight`); or sees what the policy does."""
    inputs: Literal["priced", "features", "stacked"] = "priced"
    """What the policy sees: an observation's features and what each window is expected to cost; features alone; or
    features, costs and the request's last rounds one by one (`policies.past_rounds`)."""
    hidden_features: tuple[str, ...] = ()
    """Features that the policy does not see, to find out what they are worth."""
    checkpoint_every: Count = 500_000
    imitation: Annotated[int, Field(ge=0)] = 400_000
    """Decisions over which the policy is first fitted to `awc`'s predictor (`agents.imitation`); 0: it begins blank."""
    warm_start: str | None = None
    """A checkpoint (.zip) or an exported policy (.safetensors) to begin from."""
    ppo: Ppo = Ppo()
    credit: Credit = Credit()
    comparison: Comparison = Comparison()

    @property
    def kind(self) -> str:
        """Return the kind of policy that comes of it (`policies.kinds`)."""
        return {"features": LOGITS, "priced": PRICED, "stacked": STACKED}[self.inputs]

    def __post_init__(self) -> None:
        for name in self.hidden_features:
            if name not in FEATURE_NAMES:
                raise ValueError(f"hidden_features: {name} is no feature{did_you_mean(name, FEATURE_NAMES)}")
        if self.hidden_features and self.inputs != "features":
            raise ValueError("hidden_features: what windows cost is made of all features; needs inputs: features")


@dataclass(frozen=True)
class AwcMlpConfig(Training):
    """The supervised window predictor of DSD (2511.21669): its labels, its network."""

    learner: Literal["awc_mlp"] = "awc_mlp"
    labels: Labels = Labels()
    regressor: Regressor = Regressor()
    comparison: FinalComparison = FinalComparison()


AnyConfig = TrainConfig | AwcMlpConfig
_LEARNERS: dict[str, type[AnyConfig]] = {"ppo": TrainConfig, "awc_mlp": AwcMlpConfig}


def load_train_config(path: str | Path | None, overrides: dict[str, Any], source: str | None = None) -> AnyConfig:
    """Return a validated config of the kind that its `learner` names (default: ppo).

    Keys that begin with `scenario.` override the scenario's own. Errors name `source` (default: the file).
    """
    file = Path(path) if path else CONFIG_FOLDER / "default.yaml"
    source = source or str(file)
    data = {"name": file.stem, **config.read_yaml(file)}
    of_scenario = {k.removeprefix("scenario."): v for k, v in overrides.items() if k.startswith("scenario.")}
    own = {k: v for k, v in overrides.items() if not k.startswith("scenario.")}
    kind = _kind(data | own, source)
    merged = config.apply_overrides(data, own, defaults=config.to_dict(kind()))
    if of_scenario:
        merged["overrides"] = {**(merged.get("overrides") or {}), **of_scenario}
    return config.build(kind, merged, source=source)


def scenario_ranges(chosen: Training) -> dict[str, Any]:
    """Return what the training scenarios are drawn from, for the policy's header."""
    source = load_scenario_or_family(chosen.scenario, chosen.overrides)
    base: Scenario = source.base if isinstance(source, Family) else source
    ranges = source.described() if isinstance(source, Family) else {}
    return {"scenario": chosen.scenario, "base": config.to_dict(base), "ranges": ranges}


def run_hash(chosen: AnyConfig) -> str:
    """Return 12 hex digits of what is trained: the config but for the comparison after it, and the deployments that the
    scenario it names holds today."""
    data = {key: value for key, value in config.to_dict(chosen).items() if key != "comparison"}
    trained = config.build(type(chosen), data, source=chosen.name)
    parts = json.dumps([config.config_hash(trained), scenario_ranges(chosen)], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def longest_window(chosen: Training) -> int:
    """Return the longest window of the training scenarios."""
    source = load_scenario_or_family(chosen.scenario, chosen.overrides)
    return (source.base if isinstance(source, Family) else source).max_window


def _kind(data: dict[str, Any], source: str) -> type[AnyConfig]:
    learner = data.get("learner", "ppo")
    if not isinstance(learner, str) or learner not in _LEARNERS:
        raise ConfigError(f"{source}: learner: expected {' or '.join(map(repr, _LEARNERS))}, got {learner!r:.40}")
    return _LEARNERS[learner]
