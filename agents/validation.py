"""How good a policy is on deployments that it was not trained in, and that are not those it is judged by in the end.

Choices (which setting, which of several runs) are made here, so that the held-out deployments stay held out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from agents import make_controller
from agents.learned import learned_controller
from agents.static import Static
from dsd_gym.comparison.cells import scenario_digest
from dsd_gym.errors import UserError
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.files import write_atomically
from dsd_gym.metrics import request_latencies, scored_requests
from dsd_gym.records import Records
from dsd_gym.scenario import Scenario
from dsd_gym.vector.running import simulate_all, simulate_each, simulate_many
from policies import Policy

FAMILY = "train/broad"
DEPLOYMENTS = 64
FIRST_SEED = 1_000_000
"""Training draws its deployments with other generators; none of these is met there."""
MEASURED = {"warm_up_ms": 5_000.0, "drain_ms": 60_000.0}
RIVAL = "awc"
_RIVAL_FILES = ("agents/awc.py", "agents/pairs.py", "agents/stabilisation.py", "dsd_gym/pricing.py")
CACHE = Path("runs/cache/validation")


@cache
def deployments(count: int = DEPLOYMENTS) -> tuple[tuple[Scenario, int], ...]:
    """Return the deployments, each with its seed; somebody is scored in each."""
    family = load_scenario_or_family(FAMILY, MEASURED)
    assert isinstance(family, Family)
    drawn: list[tuple[Scenario, int]] = []
    seed = FIRST_SEED
    while len(drawn) < count:
        scenario = replace(family.sample(np.random.default_rng(seed)), name=f"validation_{seed - FIRST_SEED}")
        ((_, records),) = simulate_many([(scenario, seed)], Static(0))
        if scored_requests(records):
            drawn.append((scenario, seed))
        seed += 1
    return tuple(drawn)


def latencies(policy: Policy, cells: Sequence[tuple[Scenario, int]]) -> list[float]:
    """Return the mean normalised latency (ms a token) of each (scenario, seed) under a policy."""
    return _means(simulate_all(cells, partial(learned_controller, policy)), len(cells))


def _means(runs: Iterator[tuple[int, Records]], count: int) -> list[float]:
    found = [math.nan] * count
    for index, records in runs:
        found[index] = float(request_latencies(records).normalised_latency_ms.mean())
    return found


@cache
def rival_latencies() -> tuple[float, ...]:
    """Return those of the rival, kept on disk until the simulator or the rule changes."""
    path = CACHE / f"{RIVAL}-{_digest()}.json"
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        cells = deployments()
        (longest,) = {scenario.max_window for scenario, _ in cells}
        found = tuple(_means(simulate_each(cells, partial(make_controller, RIVAL, longest)), len(cells)))
        with suppress(OSError, UserError):  # what cannot be kept is computed again
            write_atomically(path, json.dumps(found))
        return found


def _digest() -> str:
    """Return a digest of all that the latencies depend on."""
    rules = b"".join((Path(__file__).parents[1] / name).read_bytes() for name in _RIVAL_FILES)
    cells = "".join(scenario_digest(scenario) for scenario, _ in deployments())
    return hashlib.sha256(rules + cells.encode()).hexdigest()[:16]


def validate(policy: Policy) -> list[float]:
    """Return ln(policy's latency / the rival's) of each validation deployment."""
    pairs = zip(latencies(policy, deployments()), rival_latencies(), strict=True)
    return [math.log(own / rival) for own, rival in pairs]
