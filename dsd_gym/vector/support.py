"""Which scenarios the twin can run: all mechanisms but those that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dsd_gym.config import ConfigError, to_dict
from dsd_gym.family import Family, Range
from dsd_gym.scenario import LinkSpec, Scenario
from dsd_gym.scenario_files import scenario_from

_ONLY: dict[str, dict[str, Any]] = {
    "": {"router": "jsq", "draft_ahead": False, "classes": (), "pairs": ()},
    "admission": {"rule": "none"},
    "cloud": {"mode": "plain"},
    "edges": {"targets": None},
    "targets": {
        "latency_model": "smooth",
        "order": "fifo",
        "padded": False,
        "batch_wait_ms": 0.0,
        "chunked_prefill": True,
        "memory": "reserve",
        "region_rtt_ms": 0.0,
    },
    "link": {"queueing": "none", "trace": None, "loss": 0.0, "outages": (), "handover": None},
}
"""Settings that must be as they are here, by the part of a scenario that has them."""


def unsupported(source: Scenario | Family) -> str | None:
    """Return the first setting that only the SimPy simulator knows, as `key: value`; None if the twin can run it.

    A family is asked for each choice and each end of a range in turn, the other keys drawn once.
    """
    if isinstance(source, Scenario):
        return _first_unsupported(source)
    scenarios = [source.base, *(scenario for part in source.ranges for scenario in _ends(source, part))]
    return next((why for scenario in scenarios if (why := _first_unsupported(scenario)) is not None), None)


def _ends(family: Family, part: Range) -> Iterator[Scenario]:
    """Yield scenarios at the ends of one of the family's ranges, or at each of its choices."""
    random, base = np.random.default_rng(0), to_dict(family.base)
    for item in part.choice or part.uniform or part.log_uniform or ():
        chosen = replace(part, choice=(item,), uniform=None, log_uniform=None)
        if part.choice is None and part.integer:
            chosen = replace(chosen, choice=(round(item),))
        drawn = dict[str, Any]()
        for other in family.ranges:
            drawn |= (chosen if other is part else other).draw(random)
        yield scenario_from(base, drawn | family.fixed, source=f"{family.name} (drawn)")


def _first_unsupported(scenario: Scenario) -> str | None:
    for key, part, settings in _parts(scenario):
        for name, value in settings.items():
            if getattr(part, name) != value:
                where = f"{key}.{name}" if key else name
                shown = repr(getattr(part, name))
                return f"{where}: {shown if len(shown) <= 60 else shown[:57].rstrip() + '...'}"
    return None


def check_supported(source: Scenario | Family) -> None:
    """Raise ConfigError with the setting that the twin does not know."""
    if (why := unsupported(source)) is not None:
        raise ConfigError(f"{source.name}: {why} is not compiled; the SimPy simulator runs it")


def _parts(scenario: Scenario) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    yield "", scenario, _ONLY[""]
    yield "admission", scenario.admission, _ONLY["admission"]
    yield "cloud", scenario.cloud, _ONLY["cloud"]
    for index, edge in enumerate(scenario.edges):
        yield f"edges.{index}", edge, _ONLY["edges"]
    for index, target in enumerate(scenario.targets):
        yield f"targets.{index}", target, _ONLY["targets"]
    links: list[tuple[str, LinkSpec | None]] = [("link", scenario.link)]
    links += [(f"edges.{index}.link", edge.link) for index, edge in enumerate(scenario.edges)]
    for key, link in links:
        if link is not None:
            yield key, link, _ONLY["link"]
