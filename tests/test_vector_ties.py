"""Events of one ms happen in the twin as in SimPy: in the order of their scheduling, then target by target."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from dice import Dice
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import Case
from twins import Twins

from dsd_gym.messages import LAST
from dsd_gym.request import Request
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Messages, Scenario, TargetClass, Workload
from dsd_gym.simulator import Simulation
from dsd_gym.target.server import TargetServer

STEP_MS = 2.0**58
"""So long that what tokens, bytes and attention add is lost to rounding: all times are whole numbers of steps."""
LATTICE = Scenario(
    edges=(EdgeClass(count=8, draft_ms_per_token=STEP_MS, prefill_ms_per_token=0.0),),
    link=LinkSpec(rtt_ms=2.0 * STEP_MS, jitter_ms=0.0),
    targets=(TargetClass("h100", "Llama-3.1-8B", 1, 2, max_sequences=4, host_ms=4.0 * STEP_MS),),
    workload=Workload("closed", users=12),
    lengths=Lengths(64, 64, 24, 24),
    acceptance=Acceptance("constant", 0.7),
    cloud=Cloud(chunk_tokens=2),
    warm_up_ms=0.0,
    horizon_ms=200.0 * STEP_MS,
    drain_ms=150.0 * STEP_MS,
    max_window=4,
)
"""Twelve users begin at 0, two to a device where there are fewer; drafting a token takes one step, a pass four."""


class Ties:
    """Counts events of one ms in a simulation, and the windows that arrive at the very ms at which a pass ends."""

    def __init__(self, simulation: Simulation) -> None:
        self.events: Counter[float] = Counter()
        self.last: Counter[float] = Counter()
        self._arrived: list[tuple[int, float]] = []
        self._logs: list[list[tuple[float, float, int, int]]] = [[] for _ in simulation.targets]
        for index, target in enumerate(simulation.targets):
            target.log = self._logs[index]
            self._watch(index, target, simulation)
        step, env = simulation.env.step, simulation.env

        def counted() -> None:
            at_ms, priority, *_ = env._queue[0]
            self.events[at_ms] += 1
            self.last[at_ms] += priority >= LAST
            step()

        env.step = counted  # type: ignore[method-assign]

    def _watch(self, index: int, target: TargetServer, simulation: Simulation) -> None:
        verify = target.verify

        def seen(request: Request, drafted: int) -> None:
            self._arrived.append((index, simulation.env.now))
            verify(request, drafted)

        target.verify = seen  # type: ignore[method-assign]

    @property
    def windows_at_the_end_of_a_pass(self) -> int:
        """Return how many there were."""
        ends = {(index, end_ms) for index, log in enumerate(self._logs) for _, end_ms, *_ in log}
        return sum(arrival in ends for arrival in self._arrived)


@pytest.mark.parametrize("spec", ["static:0", "static:4", "random"])
@pytest.mark.parametrize("rtt_steps", [0, 2, 5])
@pytest.mark.parametrize("devices", [3, 12])
def test_ties_are_broken_alike(spec: str, rtt_steps: int, devices: int) -> None:
    edges = (replace(LATTICE.edges[0], count=devices),)
    scenario = replace(LATTICE, edges=edges, link=replace(LATTICE.link, rtt_ms=rtt_steps * STEP_MS))
    twins = Twins([Case(scenario, spec, 5)])
    ties = Ties(twins.simulations[0])
    twins.run()
    tied = sum(count for count in ties.events.values() if count > 1)
    assert tied > 0.5 * sum(ties.events.values())
    assert sum(count > 1 for count in ties.last.values()) > 2, "passes that begin or end together"
    if spec != "static:0":
        assert sum(ties.last[at_ms] not in (0, count) for at_ms, count in ties.events.items()) > 20, "turns and others"
        assert ties.windows_at_the_end_of_a_pass > 10


def on_the_lattice(dice: Dice) -> Scenario:
    """Return a crowd of users, machines and limits in which all takes whole steps."""
    pick = dice.pick
    edge = LATTICE.edges[0]
    edges = dice.some(lambda d: replace(edge, count=d.pick(1, 4), draft_ms_per_token=d.pick(1, 2, 4) * STEP_MS), 2)
    host_ms, room = pick(1, 4, 6) * STEP_MS, (pick(1, 3, 16), pick(18, 30, 200))
    target = replace(LATTICE.targets[0], count=pick(1, 2, 3), max_sequences=room[0], max_batch_tokens=room[1])
    limits = {"kv_tokens": pick(None, 100, 400), "max_queue": pick(2, 512), "prefill_chunk_tokens": pick(None, 9)}
    return replace(
        LATTICE,
        edges=tuple(edges) or LATTICE.edges,
        link=replace(LATTICE.link, rtt_ms=pick(0, 1, 2, 8) * STEP_MS, up_share=pick(0.0, 0.5, 0.75)),
        targets=(replace(target, host_ms=host_ms, **limits),),
        workload=Workload("closed", users=pick(2, 6, 12)),
        lengths=Lengths(*pick((64, 64, 24, 24), (30, 30, 1, 1), (60, 40, 9, 5))),
        cloud=Cloud(chunk_tokens=pick(1, 3)),
        max_requests=40,
    )


@settings(max_examples=80)
@given(st.integers(0, 2**31))
def test_random_ties_are_broken_alike(seed: int) -> None:
    Twins([Case(on_the_lattice(Dice(seed)), "random", seed)]).run()


def test_users_who_never_pause_tie_with_those_who_leave() -> None:
    """Nothing takes time but the target: a request ends, its user's next begins and arrives, all at one ms."""
    scenario = replace(
        LATTICE,
        edges=(EdgeClass(count=3, draft_ms_per_token=1e-300, prefill_ms_per_token=0.0),),
        link=LinkSpec(rtt_ms=0.0, jitter_ms=0.0, up_mbps=1e300, down_mbps=1e300),
        messages=Messages(header_bytes=0.0),
        lengths=Lengths(64, 64, 3, 3),
    )
    twins = Twins([Case(scenario, "random", 5)])
    ties = Ties(twins.simulations[0])
    twins.run()
    assert sum(ties.events.values()) > 15 * len(ties.events)
    assert twins.met["finished"] > 50
