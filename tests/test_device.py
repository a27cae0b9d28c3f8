"""A device shared by several streams: what waits for its draft model, and what does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_gym.device import Device
from dsd_gym.network import Link
from dsd_gym.records import Decision
from dsd_gym.request import Request
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import Simulation

CROWDED = Scenario(
    edges=(EdgeClass(count=1, draft_ms_per_token=12.0, prefill_ms_per_token=4.0),),
    link=LinkSpec(rtt_ms=5, jitter_ms=0),
    workload=Workload("closed", users=5),
    lengths=Lengths(60, 40, 20, 15),
    warm_up_ms=0,
    horizon_ms=12_000,
    drain_ms=0,
)


def device(ahead_limit: int = 0) -> Device:
    return Device(0, 0, 10.0, 0.0, Link(LinkSpec(), 0, 0), ahead_limit)


def test_a_window_that_is_drafted_already_waits_for_no_other_stream() -> None:
    shared, request = device(), SimpleNamespace(ahead=None, guessed=1)
    assert shared.compute(0.0, 100.0) == 100.0
    assert shared.draft(request, 1, 5.0) == 5.0  # type: ignore[arg-type]
    assert shared.draft(request, 3, 6.0) == 120.0, "two more tokens, after the others' work"  # type: ignore[arg-type]


def test_drafting_ahead_of_a_window_begins_when_the_draft_is_free() -> None:
    shared, request = device(ahead_limit=8), SimpleNamespace(ahead=None, guessed=1)
    shared.compute(0.0, 100.0)
    assert shared.draft(request, 1, 5.0) == 5.0  # type: ignore[arg-type]
    assert request.ahead.tokens(100.0) == 0
    assert request.ahead.tokens(120.0) == 2


def test_drafting_ahead_of_a_second_stream_ends_that_of_the_first() -> None:
    shared = device(ahead_limit=8)
    first, second = (SimpleNamespace(ahead=None, guessed=1) for _ in range(2))
    shared.draft(first, 1, 0.0)  # type: ignore[arg-type]
    assert shared.draft(second, 1, 15.0) == 15.0  # type: ignore[arg-type]
    assert first.ahead.tokens(100.0) == 2, "the step in progress is finished"
    assert second.ahead.tokens(39.0) == 1


def test_a_guess_promised_before_drafting_ahead_begins_is_kept() -> None:
    """The window was sent at once, and its verdict is there before the draft has finished the work of others."""
    shared, request = device(ahead_limit=8), SimpleNamespace(ahead=None, guessed=1)
    shared.compute(0.0, 100.0)
    shared.draft(request, 1, 5.0)  # type: ignore[arg-type]
    shared.verified(request, True, 20.0)  # type: ignore[arg-type]
    assert shared.first_guess(request, 20.0) == 120.0  # type: ignore[arg-type]
    assert shared.compute(30.0, 50.0) == 170.0, "a third stream's work comes after what was promised"
    assert shared.draft(request, 1, 120.0) == 120.0  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), users=st.integers(2, 6))
def test_catch_up_is_the_time_until_the_draft_begins(seed: int, users: int) -> None:
    """A window of one token, asked for before there is a guess, is drafted one step after the catch-up."""
    drafted: dict[tuple[int, float], float] = {}
    booked: Counter[float] = Counter()
    draft, compute = Device.draft, Device.compute

    def noted(self: Device, request: Request, window: int, now_ms: float) -> float:
        drafted[request.arrival.stream, now_ms] = done_ms = draft(self, request, window, now_ms)
        return done_ms

    def counted(self: Device, now_ms: float, work_ms: float) -> float:
        booked[now_ms] += 1
        return compute(self, now_ms, work_ms)

    simulation = Simulation(replace(CROWDED, workload=Workload("closed", users=users)), seed)
    promised: dict[tuple[int, float], float] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Device, "draft", noted)
        patch.setattr(Device, "compute", counted)
        while (ask := simulation.next_decision()) is not None:
            seen, now_ms = ask.observation, simulation.env.now
            if not seen.has_first_guess:
                promised[ask.stream, now_ms] = now_ms + seen.catch_up_ms + seen.draft_ms_per_token
            simulation.answer(Decision(1))
    alone = [asked for asked in promised.keys() & drafted.keys() if booked[asked[1]] == 1]  # no tie with another stream
    assert alone
    for asked in alone:
        assert drafted[asked] == pytest.approx(promised[asked])
