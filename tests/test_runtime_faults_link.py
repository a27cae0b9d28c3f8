"""A link that is cut, reset, lossy or suddenly long: texts stay those of `transformers`, and the edge sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from dsd_gym.records import Round
from dsd_gym.scenario import LinkSpec
from runtime.edge import client
from runtime.link import EmulatedLink
from tests.fault_world import TargetProcess, Windows, Witness, edge_to, expected, generated, prompts, target_process

FAST = LinkSpec(rtt_ms=5.0, jitter_ms=0.0, up_mbps=100.0, down_mbps=100.0)
IMPATIENT = {"silence_timeout_s": 0.5, "connect_timeout_s": 0.5}
MODES = [((4,), "verify", 5), ((0,), "receive", 3)]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetProcess]:
    """Run one target for all tests."""
    for prompt in prompts():
        expected(prompt)
    with target_process(tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture
def link(process: TargetProcess) -> Iterator[EmulatedLink]:
    """Lend a fast link to the target, which is to be as new afterwards."""
    with EmulatedLink(("127.0.0.1", process.port), FAST).in_thread() as link:
        yield link
    process.ready()


def longest_ms(rounds: list[Round]) -> float:
    return max(round.end_ms - round.start_ms for round in rounds)


def test_a_long_prompt_may_take_longer_than_connecting(link: EmulatedLink, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        link.change(up_mbps=0.01)
        async with edge_to(link.port, Windows((0,)), connect_timeout_s=1.2) as (edge, trap):
            began_s = time.monotonic()
            await generated(edge, [200 + i % 300 for i in range(900)], 4)
            assert time.monotonic() - began_s > 1.4  # 1800 bytes, after a handshake
            assert trap.tries == 1

    monkeypatch.setattr(client, "SLOWEST_MBPS", 0.004)
    asyncio.run(run())


@pytest.mark.parametrize(("windows", "call", "number"), MODES)
def test_a_cut_link_is_waited_for(link: EmulatedLink, windows: tuple[int, ...], call: str, number: int) -> None:
    async def run() -> None:
        async with edge_to(link.port, Windows(windows), call, number, lambda: link.cut(3.0)) as (edge, trap):
            rounds = await generated(edge, prompts()[0])
            assert edge.reconnects == 0 and trap.opened == [0]
            assert 2900.0 < longest_ms(rounds) < 4000.0
            if windows != (0,):  # the bytes of the round were held, and that is a round trip
                assert 2900.0 < max(round.rtt_ms for round in rounds) < 4000.0

    asyncio.run(run())


@pytest.mark.parametrize(("windows", "call", "number"), MODES)
def test_a_link_that_is_cut_for_longer_than_silence_may_last_is_left_and_found_again(
    link: EmulatedLink, windows: tuple[int, ...], call: str, number: int
) -> None:
    async def run() -> None:
        cut = partial(link.cut, 2.0)
        async with edge_to(link.port, Windows(windows), call, number, cut, **IMPATIENT) as (edge, trap):
            rounds = await generated(edge, prompts()[1])
            assert edge.reconnects == 1 and trap.tries > 2
            assert longest_ms(rounds) > 1900.0

    asyncio.run(run())


@pytest.mark.parametrize(("windows", "call", "number"), [*MODES, ((0, 0, 4), "stop", 1)])
def test_connections_that_are_reset_and_refused_for_a_while_are_made_again(
    link: EmulatedLink, windows: tuple[int, ...], call: str, number: int
) -> None:
    def spring() -> None:
        link.refuse = True
        link.break_connections()
        threading.Timer(1.0, allow).start()

    def allow() -> None:
        link.refuse = False

    async def run() -> None:
        async with edge_to(link.port, Windows(windows), call, number, spring) as (edge, trap):
            rounds = await generated(edge, prompts()[2])
            assert edge.reconnects == 1 and trap.tries > 3
            assert 950.0 < longest_ms(rounds) < 3500.0

    asyncio.run(run())


def test_a_round_is_shown_once_though_the_connection_is_made_anew_after_it(link: EmulatedLink) -> None:
    async def run() -> None:
        witness = Witness("static:4")
        async with edge_to(link.port, witness, "receive", 5, link.break_connections) as (edge, _):
            rounds = await generated(edge, prompts()[2])
            assert edge.reconnects == 1
        verified = sum(round.drafted > 0 for round in rounds)
        assert sum(observation.has_last_confidence for observation in witness.seen) == verified - 1 > 5

    asyncio.run(run())


def test_resets_over_and_over_cost_no_token(link: EmulatedLink) -> None:
    async def run() -> None:
        modes = Windows((4,), (0,), (0, 0, 3))
        async with edge_to(link.port, modes) as (edge, trap):

            def spring() -> None:
                link.break_connections()
                trap.arm("receive", 25)

            trap.arm("receive", 10, spring)
            await asyncio.gather(*(generated(edge, prompt) for prompt in prompts()))
            assert edge.reconnects >= 10

    asyncio.run(run())


@pytest.mark.parametrize("windows", [(4,), (0, 0, 4)])
def test_loss_and_jitter_cost_time_and_no_token(link: EmulatedLink, windows: tuple[int, ...]) -> None:
    """A lost segment shows as TCP shows it: as a retransmission timeout of 200 ms. A busy machine lengthens rounds and
    never shortens them: times are the least of three tries."""

    async def run() -> tuple[float, float]:
        asked = 2 * prompts()
        link.change(loss=0.01, jitter_ms=5.0)
        async with edge_to(link.port, Windows(windows)) as (edge, trap):
            rounds = [round for prompt in asked for round in await generated(edge, prompt)]
            lengths_ms = [round.end_ms - round.start_ms for round in rounds]
            assert edge.reconnects == 0 and len(trap.opened) == len(asked)
            return median(lengths_ms), max(lengths_ms)

    assert any(usual_ms < 100.0 < 200.0 < longest_ms for usual_ms, longest_ms in (asyncio.run(run()) for _ in range(3)))


def test_a_longer_round_trip_is_measured_at_once_and_smoothed(link: EmulatedLink) -> None:
    async def run() -> None:
        witness = Witness("static:4")
        async with edge_to(link.port, witness, "verify", 10, lambda: link.change(rtt_ms=300.0)) as (edge, _):
            rounds = await generated(edge, prompts()[3])
            assert edge.reconnects == 0
        assert median(round.rtt_ms for round in rounds[:9]) < 50.0
        assert min(round.rtt_ms for round in rounds[10:]) >= 300.0  # the tenth was on its way
        smoothed_ms = [observation.smoothed_rtt_ms for observation in witness.seen]
        assert max(smoothed_ms[:10]) < 100.0 < 150.0 < smoothed_ms[16]
        assert smoothed_ms[11:] == sorted(smoothed_ms[11:])

    asyncio.run(run())


@pytest.mark.parametrize("spec", ["leviathan", "awc"])
def test_a_longer_round_trip_sends_an_aware_controller_to_the_cloud(tmp_path: Path, spec: str) -> None:
    """
    Passes take what those of a large pair take: there a window pays at 5 ms, and does not at 300.

    A stall of the machine before the change is a longer round, which awc may well leave to the cloud: then it is done
    once more.
    """

    async def run(link: EmulatedLink) -> tuple[Witness, list[Round]]:
        witness = Witness(spec)
        change = partial(link.change, rtt_ms=300.0)
        async with edge_to(link.port, witness, "receive", 6, change, draft_pass_ms=4.0) as (edge, _):
            return witness, await generated(edge, prompts()[4])

    with target_process(tmp_path, "--target-pass-ms", "40") as target:
        for _ in range(3):
            with EmulatedLink(("127.0.0.1", target.port), FAST).in_thread() as link:
                witness, rounds = asyncio.run(run(link))
            if longest_ms(rounds[:5]) < 150.0:
                break
        target.ready()
    assert 0 not in witness.decided[:5] and witness.decided[-1] == 0
    assert max(observation.smoothed_rtt_ms for observation in witness.seen[:5]) < 100.0
