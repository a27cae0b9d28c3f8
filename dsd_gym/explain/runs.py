"""Whole runs beside a policy: somebody acts, perhaps the policy itself, and the policy says what it would have done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress
from dsd_gym.comparison.parallel import run_all
from dsd_gym.controller import NO_THRESHOLD, Controller, DecidesMany
from dsd_gym.explain.acts import Act, ByPolicy, Decisions, Rows, Windows
from dsd_gym.metrics import request_latencies, scored_requests
from dsd_gym.observation import FEATURE_NAMES, Observation
from dsd_gym.records import Decision, Records, Round
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate
from dsd_gym.vector.support import unsupported

if TYPE_CHECKING:
    from dsd_gym.vector.fleet import Fleet

Cells = Sequence[tuple[Scenario, int]]
"""Deployments, each with the seed of its luck."""

SIDE_BY_SIDE = 16
"""Runs that are made together; whom a misled decision is taken from depends on it."""


class Work(NamedTuple):
    """What to run."""

    cells: Cells
    policy: str
    """A spec whose decisions depend on the observation alone."""
    make_controller: MakeController
    act: Act = ByPolicy()
    keep: int = 0
    """Observations to bring home of each run, drawn at random of all."""


class Seen(NamedTuple):
    """What came of a run."""

    latency_ms: float
    """Mean normalised latency (ms a token) of the scored requests; nan if there were none."""
    decisions: int
    differing: int
    """Those that the policy would have taken otherwise."""
    rows: Rows
    meant: Windows
    """What the policy would have done with `rows`."""
    done: Windows


def run_each(works: Sequence[Work], jobs: int, progress: Progress | None = None) -> list[list[Seen]]:
    """Return what came of the runs of each work, in order; the same whatever the number of processes."""
    found: list[dict[int, Seen]] = [{} for _ in works]
    pieces = [(number, *piece) for number, work in enumerate(works) for piece in _pieces(work)]
    for done, (index, seen) in enumerate(run_all(run, [piece for *_, piece in pieces], jobs), 1):
        number, places, _ = pieces[index]
        found[number] |= dict(zip(places, seen, strict=True))
        if progress:
            progress(done, len(pieces))
    return [[runs[place] for place in range(len(runs))] for runs in found]


def _pieces(work: Work) -> Iterator[tuple[list[int], Work]]:
    """Yield work that can be done side by side, and the places of its runs."""
    known = {id(scenario): unsupported(scenario) is None for scenario, _ in work.cells}
    alike: dict[tuple[bool, int], list[int]] = {}
    for place, (scenario, _) in enumerate(work.cells):
        alike.setdefault((known[id(scenario)], scenario.max_window), []).append(place)
    for places in alike.values():
        for first in range(0, len(places), SIDE_BY_SIDE):
            some = places[first : first + SIDE_BY_SIDE]
            yield some, work._replace(cells=[work.cells[place] for place in some])


def run(work: Work) -> list[Seen]:
    """Do work of one longest window: in the compiled twin where it knows all the deployments, else one by one."""
    watched, latencies_ms = _Watched(work), [math.nan] * len(work.cells)
    for place, records in _simulated(work, watched):
        if scored_requests(records):
            latencies_ms[place] = float(request_latencies(records).normalised_latency_ms.mean())
    return watched.seen(latencies_ms)


def _simulated(work: Work, watched: _Watched) -> Iterator[tuple[int, Records]]:
    if all(unsupported(scenario) is None for scenario in {id(s): s for s, _ in work.cells}.values()):
        from dsd_gym.vector.running import simulate_with  # numba

        yield from simulate_with(work.cells, lambda fleet: _Together(watched, fleet.count))
        return
    for place, (scenario, seed) in enumerate(work.cells):
        yield place, simulate(scenario, _Alone(watched, place), seed)


class _Watched:
    """Acts as it is told, asks the policy too, and remembers."""

    def __init__(self, work: Work) -> None:
        (longest,) = {scenario.max_window for scenario, _ in work.cells}
        policy = work.make_controller(work.policy, longest)
        assert isinstance(policy, DecidesMany)
        self._policy, self._act = policy, work.act
        self._seeds, self._keep = [seed for _, seed in work.cells], work.keep
        self._random = np.random.default_rng(self._seeds)
        self._decisions = np.zeros(len(work.cells), np.int64)
        self._differing = self._decisions.copy()
        self._kept: list[tuple[Windows, Rows, Windows, Windows]] = []

    def decide(self, runs: Windows, seen: Rows) -> Decisions:
        """Return what is done on observations, each of another of the `runs`."""
        meant = self._policy.decide_many(seen)
        done = meant if isinstance(self._act, ByPolicy) else self._act(self._policy, seen, self._random)
        self._decisions[runs] += 1
        self._differing[runs] += (meant[0] != done[0]) | (_stops(meant) != _stops(done))
        if self._keep:
            self._kept.append((runs, seen, meant[0], done[0]))
        return done

    def seen(self, latencies_ms: Sequence[float]) -> list[Seen]:
        """Return what came of the runs, whose latencies are these."""
        none = np.zeros(0, np.int64), np.zeros((0, len(FEATURE_NAMES))), np.zeros(0, np.int64), np.zeros(0, np.int64)
        runs, *kept = (np.concatenate(part) for part in zip(none, *self._kept, strict=True))
        found = []
        for run, latency_ms in enumerate(latencies_ms):
            drawn = np.random.default_rng(self._seeds[run]).permutation(np.flatnonzero(runs == run))[: self._keep]
            counts = int(self._decisions[run]), int(self._differing[run])
            found.append(Seen(latency_ms, *counts, *(part[drawn] for part in kept)))
        return found


def _stops(decisions: Decisions) -> NDArray[np.float64]:
    windows, stops = decisions
    return np.full(len(windows), NO_THRESHOLD) if stops is None else stops


class _Together:
    """Answers for runs of the twin, as `vector.answers.Answers`."""

    def __init__(self, watched: _Watched, count: int) -> None:
        self._watched, self._begun = watched, 0
        self._runs = np.zeros(count, np.int64)

    def begin(self, place: int) -> None:
        """Learn that the next run is put there."""
        self._runs[place] = self._begun
        self._begun += 1

    def hear(self, fleet: Fleet) -> None:
        """Learn nothing from what has happened."""

    def answer(self, fleet: Fleet, asking: Windows, windows: Windows, thresholds: NDArray[np.float64]) -> None:
        """Decide on the rows that ask."""
        done = self._watched.decide(self._runs[asking], fleet.seen[asking])
        windows[asking], thresholds[asking] = done[0], _stops(done)


class _Alone(Controller):
    """Answers for a run of the simulator."""

    def __init__(self, watched: _Watched, run: int) -> None:
        self._watched, self._run = watched, np.array([run])

    def begin(self, stream: int, device: int, target: int) -> None:
        """Keep nothing."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Decide on one row."""
        done = self._watched.decide(self._run, np.array([observation], np.float64))
        stop = float(_stops(done)[0])
        return Decision(int(done[0][0]), None if stop == NO_THRESHOLD else stop)

    def record(self, round: Round) -> None:
        """Learn nothing."""

    def forget(self, stream: int) -> None:
        """Keep nothing."""


def pooled(seen: Iterable[Seen]) -> tuple[Rows, Windows, Windows]:
    """Return the rows kept of all runs, and what was meant and done."""
    kept = [(found.rows, found.meant, found.done) for found in seen]
    rows, meant, done = (np.concatenate([part[place] for part in kept]) for place in range(3))
    return rows, meant, done
