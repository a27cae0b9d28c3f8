"""What was learned: a small network from observation to window, and where it came from.

A `PolicyHeader` or `Policy` that exists has been checked: its features, shapes and numbers are fit for use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURE_NAMES, FEATURES, MAX_WINDOW

FORMAT_VERSION = 1
ACTIVATIONS = ("tanh", "relu")

Pairs = dict[str, tuple[float, float]]


class PolicyError(ValueError):
    """A policy that cannot be used; one line that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(" ".join(reason.splitlines())))


def printable(text: str) -> str:
    """Escape what could steer a terminal: a policy's texts come from a file that anyone may have written."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def current_scaling() -> Pairs:
    """Return {feature: (high, knee)} as observations are scaled today; knee 0 means linear."""
    return {name: (feature.high, feature.knee or 0.0) for name, feature in FEATURES.items()}


@dataclass(frozen=True, kw_only=True)
class PolicyHeader:
    """What a policy expects, what it was trained in, and how to make it again."""

    max_window: int
    activation: str
    """Between layers: `tanh` or `relu`."""
    feature_ranges: Pairs
    """{feature: (low, high)} seen in training, in the feature's own unit, not scaled."""
    scenario_ranges: dict[str, Any]
    """What the training scenarios were drawn from."""
    training_config: dict[str, Any]
    config_hash: str
    seed: int
    package_version: str
    command: str
    """The shell command that made it."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """How it did on scenarios it had not been trained in."""
    feature_names: tuple[str, ...] = FEATURE_NAMES
    feature_scaling: Pairs = field(default_factory=current_scaling)
    """{feature: (high, knee)} of the observations that it was trained on: another scale is another input."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise PolicyError(f"header: {name} must be {kind.__name__}, not {type(value).__name__}")
        if not 1 <= self.max_window <= MAX_WINDOW:
            raise PolicyError(f"max_window must be 1 to {MAX_WINDOW}, not {self.max_window}")
        if self.activation not in ACTIVATIONS:
            raise PolicyError(f"unknown activation {self.activation!r}: known are {', '.join(ACTIVATIONS)}")
        _check_names(self.feature_names)
        _check_scaling(self.feature_scaling)
        _check_ranges(self.feature_ranges)

    @classmethod
    def from_dict(cls, values: Any) -> PolicyHeader:
        """Return the header that `dataclasses.asdict` and JSON made `values` of, or raise PolicyError."""
        if not isinstance(values, dict):
            raise PolicyError(f"header: must be an object, not {type(values).__name__}")
        _check_version(values.get("format_version"))
        expected = {f.name for f in fields(cls)}
        if wrong := sorted(expected ^ values.keys()):
            described = (f"{'no' if key in expected else 'unknown'} key {key}" for key in wrong)
            raise PolicyError(f"header: {', '.join(described)}")
        return cls(
            **{
                **values,
                "feature_names": _names(values["feature_names"]),
                "feature_scaling": _pairs("feature_scaling", values["feature_scaling"]),
                "feature_ranges": _pairs("feature_ranges", values["feature_ranges"]),
            }
        )


class Layer(NamedTuple):
    """An affine layer: weight (out, in) and bias (out,), both float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Policy:
    """A network: scaled observation in, one logit for each window 0..max_window out."""

    header: PolicyHeader
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise PolicyError("it has no layers")
        width = len(FEATURE_NAMES)
        for index, layer in enumerate(self.layers):
            _check_layer(index, layer, width)
            width = len(layer.bias)
        if width != self.header.max_window + 1:
            raise PolicyError(
                f"the last layer gives {width} logits, but max_window {self.header.max_window} "
                f"needs {self.header.max_window + 1}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the number of inputs, then each layer's outputs."""
        return (len(FEATURE_NAMES), *(len(layer.bias) for layer in self.layers))

    @property
    def parameters(self) -> int:
        """Return how many weights and biases there are."""
        return sum(layer.weight.size + layer.bias.size for layer in self.layers)


_KINDS: dict[str, type] = {
    "max_window": int,
    "activation": str,
    "feature_ranges": dict,
    "scenario_ranges": dict,
    "training_config": dict,
    "config_hash": str,
    "seed": int,
    "package_version": str,
    "command": str,
    "evaluation": dict,
    "feature_names": tuple,
    "feature_scaling": dict,
}


def _check_version(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PolicyError(f"header: format_version must be a whole number from 1, not {version!r:.40}")
    if version > FORMAT_VERSION:
        raise PolicyError(f"format {version} is newer than {FORMAT_VERSION}: upgrade dsd-gym")


def _check_names(names: tuple[str, ...]) -> None:
    if names == FEATURE_NAMES:
        return
    missing = [name for name in FEATURE_NAMES if name not in names]
    unknown = [name for name in names if name not in FEATURE_NAMES]
    differences = [f"it lacks {', '.join(missing)}"] if missing else []
    differences += [f"unknown here: {', '.join(unknown)}"] if unknown else []
    if not differences:
        first = next(name for name, ours in zip(names, (*FEATURE_NAMES, ""), strict=False) if name != ours)
        differences = [f"another order, from {first} on"]
    raise PolicyError(f"feature names differ from this version's: {'; '.join(differences)}")


def _check_keys(what: str, pairs: Pairs) -> None:
    if wrong := sorted(pairs.keys() ^ set(FEATURE_NAMES)):
        raise PolicyError(f"header: {what} must name every feature; wrong: {', '.join(wrong)}")


def _check_scaling(scaling: Pairs) -> None:
    _check_keys("feature_scaling", scaling)
    for name, now in current_scaling().items():
        if scaling[name] != now:
            raise PolicyError(f"{name} was scaled by (high, knee) {scaling[name]} in training, now by {now}")


def _check_ranges(ranges: Pairs) -> None:
    _check_keys("feature_ranges", ranges)
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise PolicyError(f"header: feature_ranges: {name} runs from {low} to {high}")


def _check_layer(index: int, layer: Layer, inputs: int) -> None:
    for name, array, dimensions in (("weight", layer.weight, 2), ("bias", layer.bias, 1)):
        if array.dtype != np.float32:
            raise PolicyError(f"layer{index}.{name} is {array.dtype}, not float32")
        if array.ndim != dimensions or array.size == 0:
            raise PolicyError(f"layer{index}.{name} has shape {array.shape}, not {dimensions} dimension(s)")
        if not np.isfinite(array).all():
            raise PolicyError(f"layer{index}.{name} holds NaN or infinity")
    outputs, given = layer.weight.shape
    if given != inputs:
        source = "there are {} features" if index == 0 else f"layer{index - 1} gives {{}}"
        raise PolicyError(f"layer{index}.weight takes {given} inputs, but {source.format(inputs)}")
    if outputs != len(layer.bias):
        raise PolicyError(f"layer{index}.weight gives {outputs} outputs, but its bias has {len(layer.bias)}")


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PolicyError("header: feature_names must be a list of names")
    return tuple(value)


def _pairs(key: str, value: object) -> Pairs:
    if not isinstance(value, dict):
        raise PolicyError(f"header: {key} must be an object")
    for name, pair in value.items():
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(x) in (int, float) for x in pair)):
            raise PolicyError(f"header: {key}: {name} must be two numbers")
    try:
        return {name: (float(low), float(high)) for name, (low, high) in value.items()}
    except OverflowError:
        raise PolicyError(f"header: {key} holds a number past floating point") from None
