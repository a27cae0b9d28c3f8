"""What a study asks: a scenario, what is varied along the axis, between panels and between lines, and what is read off.

A line is a variant (changes of the scenario) under a controller; a panel is a value of the second axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from dsd_gym import config
from dsd_gym.config import ConfigError, Count, Positive
from dsd_gym.scenario import Scenario
from dsd_gym.scenario_files import load_scenario

STUDY_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "studies"


@dataclass(frozen=True)
class Axis:
    """Values of one dotted key of the scenario; `key` is empty where every value is a mapping of keys to values."""

    label: str
    """With its unit, as it stands on the figure."""
    values: Annotated[tuple[Any, ...], Field(min_length=1)]
    key: str = ""
    names: tuple[str, ...] = ()
    """What to call each value; needed for those that are no numbers, which have no place on a scale."""
    log: bool = False

    def __post_init__(self) -> None:
        if self.names and len(self.names) != len(self.values):
            raise ValueError("names must be as many as values")
        mappings = all(isinstance(value, dict) for value in self.values)
        if not self.key and not mappings:
            raise ValueError("key is missing, and not every value is a mapping")
        if not self.names and not all(isinstance(value, int | float) for value in self.values):
            raise ValueError("values that are not numbers need names")
        if self.log and min(self.places) <= 0.0:
            raise ValueError("log needs numbers above 0")

    def settings(self, index: int) -> dict[str, Any]:
        """Return the dotted keys of one value."""
        value = self.values[index]
        return {self.key: value} if self.key else dict(value)

    def name(self, index: int) -> str:
        """Return what to call one value."""
        return self.names[index] if self.names else f"{self.values[index]:g}"

    @property
    def places(self) -> list[float]:
        """Where the values stand: the numbers themselves, or their order."""
        numeric = all(isinstance(value, int | float) for value in self.values)
        return [float(value) for value in self.values] if numeric else [float(i) for i in range(len(self.values))]


@dataclass(frozen=True)
class Variant:
    """Changes of the scenario that a line stands for, under its own controllers or the study's."""

    name: str
    set: dict[str, Any] = field(default_factory=dict)
    controllers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What is read off the lines.

    crossover: where along the axis the second line of each variant becomes better than the first (interpolated).
    capacity: how far along the axis a line keeps `metric` at or above `level` (interpolated).
    best_window: the `static:K` with the best `metric` at each place; those within `band` of it count as equal.
    """

    kind: Literal["crossover", "capacity", "best_window"]
    metric: str = ""
    """That of the study if empty."""
    level: float = 0.9
    band: Positive = 0.01


@dataclass(frozen=True)
class Study:
    """One question, and the sweep that answers it."""

    title: str
    question: str
    scenario: str
    x: Axis
    controllers: Annotated[tuple[str, ...], Field(min_length=1)]
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] = "study"
    """That of its page and figures."""
    set: dict[str, Any] = field(default_factory=dict)
    """Dotted keys that differ from the scenario throughout."""
    panels: Axis | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (Variant(""),)
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("normalised_latency_ms",)
    """Of `metrics.summarise`; the first is drawn, all are in the table."""
    reference: str = ""
    """The line that differences in the table are taken against: its name as it stands in the table."""
    seeds: Count = 4
    reading: Reading | None = None
    log_y: bool = False
    finding: str = ""
    """What the figures say, in words."""

    def __post_init__(self) -> None:
        kind = self.reading.kind if self.reading else ""
        for variant in self.variants:
            own = variant.controllers or self.controllers
            if kind == "crossover" and len(own) != 2:
                raise ValueError(f"reading: a crossover is of two controllers, not of {', '.join(own)}")
            if kind == "best_window" and not any(spec.startswith("static:") for spec in own):
                raise ValueError(f"reading: none of {', '.join(own)} is a fixed window, static:K")

    @property
    def read_metric(self) -> str:
        """The metric that the reading goes by."""
        return (self.reading.metric if self.reading else "") or self.metrics[0]


class Line(NamedTuple):
    """A variant under a controller."""

    variant: int
    controller: str
    name: str


class Point(NamedTuple):
    """One simulated place of a study: its panel, its place along the axis, its line."""

    panel: int
    x: int
    line: Line
    scenario: Scenario


def load_study(path: str | Path) -> Study:
    """Return the study of a YAML file or of a name under configs/studies; ConfigError names file and key."""
    file = next((p for p in (Path(path), STUDY_FOLDER / f"{path}.yaml") if p.is_file()), None)
    if file is None:
        known = sorted(p.stem for p in STUDY_FOLDER.glob("*.yaml"))
        raise ConfigError(f"{path}: no such study{config.did_you_mean(str(path), known)}")
    study = config.build(Study, {"name": file.stem, **config.read_yaml(file)}, source=str(file))
    names = [line.name for line in lines(study)]
    if study.reference and study.reference not in names:
        raise ConfigError(f"{file}: reference: no line {study.reference}{config.did_you_mean(study.reference, names)}")
    return study


def smoke(study: Study) -> Study:
    """Return about a hundredth of a study: the ends of its axis, one panel, one seed."""
    ends = sorted({0, len(study.x.values) - 1})
    x = replace(
        study.x,
        values=tuple(study.x.values[i] for i in ends),
        names=tuple(study.x.names[i] for i in ends) if study.x.names else (),
    )
    panels = study.panels and replace(study.panels, values=study.panels.values[:1], names=study.panels.names[:1])
    short = {"horizon_ms": 3000.0, "warm_up_ms": 0.0, "drain_ms": 5000.0, "max_requests": 12}
    variants = tuple(replace(variant, set=variant.set | short) for variant in study.variants)
    return replace(study, x=x, panels=panels, variants=variants, seeds=1)


def lines(study: Study) -> list[Line]:
    """Return the lines of a study in order."""
    found = []
    for index, variant in enumerate(study.variants):
        for spec in variant.controllers or study.controllers:
            short = Path(spec).stem if spec.endswith(".safetensors") else spec
            alone = len(variant.controllers or study.controllers) == 1 and variant.name
            name = variant.name if alone else f"{variant.name}, {short}" if variant.name else short
            found.append(Line(index, spec, name))
    return found


def points(study: Study) -> Iterator[Point]:
    """Yield every place of a study with its scenario; ConfigError names the study and the wrong key."""
    for panel in range(len(study.panels.values) if study.panels else 1):
        for x in range(len(study.x.values)):
            for line in lines(study):
                keys = dict(study.set)
                keys |= study.panels.settings(panel) if study.panels else {}
                keys |= study.x.settings(x) | study.variants[line.variant].set
                yield Point(panel, x, line, _scenario(study, keys))


def _scenario(study: Study, keys: dict[str, Any]) -> Scenario:
    try:
        scenario = load_scenario(study.scenario, keys)
    except ConfigError as error:
        raise ConfigError(f"{study.name}: {error}") from None
    return replace(scenario, name=f"{study.name}/{scenario.name}", description="")


def better_when_less(metric: str) -> bool:
    """Return whether less of a metric is better: of times and of what was left undone."""
    return "_ms" in metric or metric in ("rejected", "unfinished", "target_utilisation")


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value that a metric can have."""
    shares = ("slo_attainment", "cloud_share", "acceptance_rate", "target_utilisation")
    return 0.0, 1.0 if metric.partition(".")[0] in shares else math.inf


def not_a_number(value: float | None) -> float:
    """Return a metric as a number: nan for what never happened."""
    return math.nan if value is None else float(value)
