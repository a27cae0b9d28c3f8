"""What the link emulator takes over from the simulator's links."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from link_ends import FAST, best_ping_ms, connect, echo, linked, ping_ms, receive, serving

from dsd_gym.scenario import Handover, LinkSpec, Outage
from runtime.link import EmulatedLink, main
from runtime.link_conditions import Conditions


def test_bytes_wait_for_the_end_of_an_outage() -> None:
    def came_s() -> float:
        made_s = time.perf_counter()  # the link's clock starts a moment later
        link = EmulatedLink(to, replace(FAST, outages=(Outage(100, 700),)))
        with link.in_thread(), connect(link.port) as edge:
            time.sleep(max(0.0, made_s + 0.2 - time.perf_counter()))
            ping_ms(edge)
            came_s = time.perf_counter() - made_s
            assert best_ping_ms(edge, 5) <= 30.0
            return came_s

    with serving(echo) as to:
        assert 0.8 <= min(came_s() for _ in range(3)) <= 1.5


def test_a_trace_gives_bandwidth_and_round_trip(tmp_path: Path) -> None:
    trace = tmp_path / "slow.csv"
    trace.write_text("time_ms,up_mbps,down_mbps,rtt_ms\n0,20,1000,50\n")

    def took_s() -> float:
        began_s = time.perf_counter()
        threading.Thread(target=edge.sendall, args=(bytes(1_000_000),)).start()
        receive(edge, 1_000_000)
        return time.perf_counter() - began_s

    with linked(echo, replace(FAST, trace=str(trace))) as (_, edge):
        assert 50.0 <= best_ping_ms(edge, 5) <= 65.0
        assert min(took_s() for _ in range(3)) == pytest.approx(0.45, rel=0.3)


def test_hand_over_holds_bytes_and_loss_is_the_specs() -> None:
    conditions = Conditions(LinkSpec(handover=Handover(40, 20), loss=0.25, queueing="site"), loss=None, seed=1)
    held = [conditions.leaves_ms(ms) > ms for ms in range(5000)]
    assert conditions.loss == 0.25 and not conditions.link.queues
    assert 0.25 < sum(held) / len(held) < 0.55  # 1 - exp(-20 / 40) of the time
    conditions.change(rtt_ms=90.0)
    assert [conditions.leaves_ms(ms) > ms for ms in range(5000)] == held and conditions.loss == 0.25


def test_a_trace_that_is_not_there_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--listen 127.0.0.1:0 --to 127.0.0.1:1 --trace none.csv"
    with pytest.raises(SystemExit) as exit_:
        main(options.split())
    told = capsys.readouterr().err
    assert exit_.value.code == 2 and told == "error: none.csv: no such bandwidth trace (link.trace)\n"
