"""A randomised family of scenarios: a base, and for some of its keys the ranges they are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from dsd_gym import config
from dsd_gym.config import ConfigError
from dsd_gym.scenario import Scenario
from dsd_gym.scenario_files import scenario_from, scenario_path


@dataclass(frozen=True)
class Range:
    """How one draw is made: exactly one of a uniform range, a log-uniform range or a choice.

    A choice's items are values, or mappings of dotted keys to values that belong together.
    """

    key: str = ""
    """Dotted key of the scenario; may be left out where every choice is a mapping."""
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    choice: tuple[Any, ...] | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("uniform", "log_uniform", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of uniform, log_uniform and choice, got {got}")
        bounds = self.uniform or self.log_uniform
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"the range {list(bounds)} runs backwards")
        if self.choice is not None and not self.choice:
            raise ValueError("choice is empty")
        if not self.key and not all(isinstance(item, dict) for item in self.choice or (0,)):
            raise ValueError("key is missing")

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """Return dotted keys and the values drawn for them."""
        if self.choice is not None:
            item = self.choice[int(random.integers(len(self.choice)))]
            return item if isinstance(item, dict) and not self.key else {self.key: item}
        if self.uniform is not None:
            value = float(random.uniform(*self.uniform))
        else:
            low, high = self.log_uniform or (1.0, 1.0)
            value = math.exp(random.uniform(math.log(low), math.log(high)))
        return {self.key: round(value) if self.integer else value}


@dataclass(frozen=True)
class Family:
    """`sample` draws one scenario: all ranges at once, independent of each other; `fixed` keys are not drawn."""

    base: Scenario
    ranges: tuple[Range, ...] = field(default=())
    name: str = "family"
    fixed: dict[str, Any] = field(default_factory=dict)

    def sample(self, random: np.random.Generator) -> Scenario:
        """Return a scenario drawn with `random`."""
        drawn: dict[str, Any] = {}
        for part in self.ranges:
            drawn |= part.draw(random)
        return scenario_from(self._base, drawn | self.fixed, source=f"{self.name} (drawn)")

    @cached_property
    def _base(self) -> dict[str, Any]:
        return config.to_dict(self.base)

    def described(self) -> dict[str, Any]:
        """Return the ranges as plain data, for a policy's header."""
        return {part.key or f"choice_{i}": config.to_dict(part) for i, part in enumerate(self.ranges)}


def load_scenario_or_family(name: str | Path, overrides: dict[str, Any] | None = None) -> Scenario | Family:
    """Return what the YAML holds: a family if it has the key `ranges`, a scenario otherwise."""
    path = scenario_path(str(name))
    data = {"name": path.stem, **config.read_yaml(path)}
    ranges = data.pop("ranges", None)
    base = scenario_from(data, overrides, source=str(name))
    if ranges is None:
        return base
    if not isinstance(ranges, list):
        raise ConfigError(f"{name}: ranges: expected a list")
    if "max_window" in str(ranges):
        raise ConfigError(f"{name}: ranges: max_window is one for all scenarios of a family")
    drawn = tuple(config.build(Range, item, source=f"{name}: ranges.{i}") for i, item in enumerate(ranges))
    family = Family(base, drawn, path.stem, overrides or {})
    family.sample(np.random.default_rng(0))
    return family
