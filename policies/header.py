"""Where a policy comes from and what it expects. A `PolicyHeader` that exists has been checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from dsd_gym.observation import FEATURE_NAMES, MAX_WINDOW
from policies.errors import PolicyError
from policies.kinds import KINDS, LOGITS, PRICED, STACKED, TREE, Pairs

FORMAT_VERSION = 6
"""Version 1 had one kind of network, `logits`, and did not name it; 3 had no priced policies, 4 other trees, 5 no
stacked ones."""


def current_scaling() -> Pairs:
    """Return {feature: (high, knee)} as observations are scaled today."""
    return KINDS[LOGITS].scaling()


@dataclass(frozen=True, kw_only=True)
class PolicyHeader:
    """What a policy expects, what it was trained in, and how to make it again."""

    max_window: int
    activation: str
    """Between layers: `tanh` or `relu` for logits, priced and stacked, `silu` for a regressor, `none` for a tree."""
    feature_ranges: Pairs
    """{feature: (low, high)} met in training, in the feature's own unit, not scaled. Of a policy that `train.py` made,
    bounded features (without a knee, no flags, no past rounds) leave out half a percent at either end: a bound is never
    far away, but what was that rare taught little."""
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
    kind: str = LOGITS
    """Of `policies.kinds`."""
    stop_thresholds: tuple[float, ...] = ()
    """What the logits after those of the windows choose among, each in [0, 1]; empty: drafting never stops early."""
    feature_names: tuple[str, ...] = FEATURE_NAMES
    feature_scaling: Pairs = field(default_factory=current_scaling)
    """{feature: (high, knee)} of the inputs that it was trained on: another scale is another input."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        for name, expected in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, expected) or isinstance(value, bool):
                raise PolicyError(f"header: {name} must be {expected.__name__}, not {type(value).__name__}")
        if self.kind not in KINDS:
            raise PolicyError(f"unknown kind {self.kind!r:.40}: known are {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        if not 1 <= self.max_window <= MAX_WINDOW:
            raise PolicyError(f"max_window must be 1 to {MAX_WINDOW}, not {self.max_window}")
        if self.activation not in kind.activations:
            raise PolicyError(f"unknown activation {self.activation!r}: known are {', '.join(kind.activations)}")
        if not all(type(value) in (int, float) and 0.0 <= value <= 1.0 for value in self.stop_thresholds):
            raise PolicyError("header: stop_thresholds must be numbers from 0 to 1")
        names = tuple(kind.features)
        _check_names(self.feature_names, names)
        _check_scaling(self.feature_scaling, kind.scaling())
        _check_ranges(self.feature_ranges, names)

    @classmethod
    def from_dict(cls, values: Any) -> PolicyHeader:
        """Return the header that `dataclasses.asdict` and JSON made `values` of, or raise PolicyError."""
        if not isinstance(values, dict):
            raise PolicyError(f"header: must be an object, not {type(values).__name__}")
        _check_version(values.get("format_version"))
        values = _upgraded(values)
        expected = {f.name for f in fields(cls)}
        if wrong := sorted(expected ^ values.keys()):
            described = (f"{'no' if key in expected else 'unknown'} key {key}" for key in wrong)
            raise PolicyError(f"header: {', '.join(described)}")
        return cls(
            **{
                **values,
                "stop_thresholds": _listed("stop_thresholds", values["stop_thresholds"]),
                "feature_names": _names(values["feature_names"]),
                "feature_scaling": _pairs("feature_scaling", values["feature_scaling"]),
                "feature_ranges": _pairs("feature_ranges", values["feature_ranges"]),
            }
        )


_SINCE = {STACKED: 6, TREE: 5, PRICED: 4}
"""The format that brought a kind. Trees of formats 3 and 4, which did not ask for costs, can be distilled anew."""

_TYPES: dict[str, type] = {
    "max_window": int,
    "kind": str,
    "activation": str,
    "feature_ranges": dict,
    "scenario_ranges": dict,
    "training_config": dict,
    "config_hash": str,
    "seed": int,
    "package_version": str,
    "command": str,
    "evaluation": dict,
    "stop_thresholds": tuple,
    "feature_names": tuple,
    "feature_scaling": dict,
}


def _check_version(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PolicyError(f"header: format_version must be a whole number from 1, not {version!r:.40}")
    if version > FORMAT_VERSION:
        raise PolicyError(f"format {version} is newer than {FORMAT_VERSION}: upgrade dsd-gym")


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Return a header's values as this version writes them."""
    if values["format_version"] == 1:
        added = {"kind": LOGITS, "stop_thresholds": []}
        if unknown := sorted(added.keys() & values.keys()):
            raise PolicyError(f"header: unknown key {', '.join(unknown)} of format 1")
        values = {**values, **added}
    elif values["format_version"] < _SINCE.get(str(values.get("kind")), 0):
        raise PolicyError(f"header: unknown kind {values['kind']!r} of format {values['format_version']}")
    return {**values, "format_version": FORMAT_VERSION}


def _check_names(names: tuple[str, ...], ours: tuple[str, ...]) -> None:
    if names == ours:
        return
    missing = [name for name in ours if name not in names]
    unknown = [name for name in names if name not in ours]
    differences = [f"it lacks {', '.join(missing)}"] if missing else []
    differences += [f"unknown here: {', '.join(unknown)}"] if unknown else []
    if not differences:
        first = next(name for name, own in zip(names, (*ours, ""), strict=False) if name != own)
        differences = [f"another order, from {first} on"]
    raise PolicyError(f"feature names differ from this version's: {'; '.join(differences)}")


def _check_keys(what: str, pairs: Pairs, names: Iterable[str]) -> None:
    if wrong := sorted(pairs.keys() ^ set(names)):
        raise PolicyError(f"header: {what} must name every feature; wrong: {', '.join(wrong)}")


def _check_scaling(scaling: Pairs, current: Pairs) -> None:
    _check_keys("feature_scaling", scaling, current)
    for name, now in current.items():
        if scaling[name] != now:
            raise PolicyError(f"{name} was scaled by (high, knee) {scaling[name]} in training, now by {now}")


def _check_ranges(ranges: Pairs, names: Iterable[str]) -> None:
    _check_keys("feature_ranges", ranges, names)
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise PolicyError(f"header: feature_ranges: {name} runs from {low} to {high}")


def _listed(key: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise PolicyError(f"header: {key} must be a list")
    return tuple(value)


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
