"""The link emulator in good order: its times, its bandwidth, and every byte in its place."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import statistics
import threading
import time
from queue import SimpleQueue

import pytest
from link_ends import FAST, best_ping_ms, connect, echo, linked, ping_ms, receive

from dsd_gym.config import ConfigError
from dsd_gym.scenario import LinkSpec, Regime
from runtime.link import EmulatedLink
from runtime.link_conditions import WINDOW_BYTES, Conditions, Direction


def test_an_echo_takes_one_round_trip() -> None:
    with linked(echo) as (_, edge):
        assert 20.0 <= best_ping_ms(edge) <= 25.0


def test_a_new_connection_waits_for_the_handshake() -> None:
    with linked(echo) as (link, _):
        took_ms = []
        for _ in range(5):
            began = time.perf_counter()
            with connect(link.port) as edge:
                ping_ms(edge)
            took_ms.append(1000.0 * (time.perf_counter() - began))
        assert 40.0 <= min(took_ms) <= 58.0


def test_it_runs_in_the_callers_event_loop() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def pings_ms() -> list[float]:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        async with server, EmulatedLink(server.sockets[0].getsockname(), FAST) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            took = []
            for _ in range(11):
                began = time.perf_counter()
                writer.write(b"ping")
                await reader.readexactly(4)
                took.append(1000.0 * (time.perf_counter() - began))
            writer.close()
            while link.connections:
                await asyncio.sleep(0.01)
            return took

    assert 20.0 <= min(asyncio.run(pings_ms())) <= 32.0


def test_a_new_round_trip_holds_for_connections_that_exist() -> None:
    with linked(echo) as (link, edge):
        assert best_ping_ms(edge, 5) <= 30.0
        link.change(rtt_ms=90.0)
        assert 90.0 <= best_ping_ms(edge, 5) <= 105.0
        link.change(rtt_ms=5.0)
        assert 5.0 <= best_ping_ms(edge, 5) <= 15.0


def test_jitter_adds_half_an_exponential_to_each_way() -> None:
    """The median of 400 numbers: standard error 7 %. A machine that stalls now and then hardly moves it."""

    async def one_way_ms() -> list[float]:
        conditions = Conditions(LinkSpec(rtt_ms=4, jitter_ms=40, jitter_slot_ms=1), loss=0.0, seed=3)
        direction, took = Direction(conditions, up=True), []
        for _ in range(400):
            await asyncio.sleep(0.002)
            began_ms = conditions.now_ms
            took.append(await direction.send(1) - began_ms)
        return took

    assert statistics.median(asyncio.run(one_way_ms())) - 2.0 == pytest.approx(20.0 * math.log(2.0), rel=0.25)


@pytest.mark.parametrize(("up_mbps", "down_mbps"), [(20, 1000), (1000, 20)])
def test_a_megabyte_takes_its_time_at_the_bandwidth(up_mbps: float, down_mbps: float) -> None:
    with linked(echo, LinkSpec(rtt_ms=0, jitter_ms=0, up_mbps=up_mbps, down_mbps=down_mbps)) as (_, edge):
        ping_ms(edge)
        took_s = []
        for _ in range(3):
            began = time.perf_counter()
            threading.Thread(target=edge.sendall, args=(bytes(1_000_000),)).start()
            assert len(receive(edge, 1_000_000)) == 1_000_000
            took_s.append(time.perf_counter() - began)
        assert min(took_s) == pytest.approx(0.4, rel=0.25)


def test_connections_share_the_bandwidth_evenly() -> None:
    """Two send 500 kB at 20 Mb/s at once; each would take 0.2 s alone."""

    def transfer(edge: socket.socket, began: float, ended_s: list[float]) -> None:
        edge.sendall(bytes(500_000))
        receive(edge, 500_000)
        ended_s.append(time.perf_counter() - began)

    def together_s() -> list[float]:
        began, ended_s = time.perf_counter(), list[float]()
        threads = [threading.Thread(target=transfer, args=(edge, began, ended_s)) for edge in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ended_s

    spec = LinkSpec(rtt_ms=0, jitter_ms=0, up_mbps=20, down_mbps=1000)
    with linked(echo, spec) as (link, first), connect(link.port) as second:
        ping_ms(first), ping_ms(second)
        sooner_s, later_s = min((together_s() for _ in range(3)), key=max)
    assert 0.3 <= later_s <= 0.8
    assert sooner_s > 0.75 * later_s


def _send(connection: socket.socket, data: bytes, seed: int) -> None:
    """Send in pieces of odd sizes, and then the end."""
    sizes = random.Random(seed)
    while data:
        size = sizes.choice((1, 40, 1448, 5000, 30_000))
        connection.sendall(data[:size])
        data = data[size:]
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_arrive_unchanged_and_in_order_in_both_directions(seed: int) -> None:
    up, down = (random.Random(2 * seed + way).randbytes(300_000) for way in (0, 1))
    arrived: SimpleQueue[bytes] = SimpleQueue()

    def life(connection: socket.socket) -> None:
        sender = threading.Thread(target=_send, args=(connection, down, seed))
        sender.start()
        arrived.put(receive(connection, len(up) + 1))
        sender.join()

    spec = LinkSpec(rtt_ms=10, jitter_ms=15, jitter_slot_ms=2, up_mbps=20, down_mbps=50)
    with linked(life, spec, loss=0.01, seed=seed) as (_, edge):
        threading.Thread(target=_send, args=(edge, up, seed + 100)).start()
        assert receive(edge, len(down) + 1) == down  # and then the end
        assert arrived.get(timeout=10.0) == up


def test_a_lost_message_takes_a_timeout_and_a_lost_part_of_a_stream_a_round_trip() -> None:

    def took_ms() -> tuple[float, float, float]:
        with linked(echo, loss=1.0) as (link, edge):
            first_ms = ping_ms(edge)
            link.change(rtt_ms=150.0)
            longer_ms = ping_ms(edge)
            link.change(rtt_ms=20.0)
            threading.Thread(target=edge.sendall, args=(bytes(1_000_000),)).start()
            began = time.perf_counter()
            receive(edge, 500_000)  # the stream's very end waits for a timeout
            stream_ms = 1000.0 * (time.perf_counter() - began)
            receive(edge, 500_000)
            return first_ms, longer_ms, stream_ms

    first_ms, longer_ms, stream_ms = map(min, zip(*(took_ms() for _ in range(3)), strict=True))
    assert 440.0 <= first_ms <= 600.0  # the handshake, and half a round trip and 200 ms each way
    assert 750.0 <= longer_ms <= 900.0  # two round trips are more than 200 ms
    assert 60.0 <= stream_ms <= 350.0


def test_memory_stays_bounded_under_a_slow_reader() -> None:
    taken, woken = 0, threading.Event()

    def life(_: socket.socket) -> None:
        woken.wait(20.0)

    with linked(life) as (link, edge):
        edge.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while taken < 200 << 20:
                taken += edge.send(bytes(1 << 20))
        assert link.held_bytes < 1.1 * WINDOW_BYTES
        woken.set()
    assert taken > WINDOW_BYTES


def test_what_a_narrow_link_cannot_take_waits_at_the_sender() -> None:
    with linked(echo, LinkSpec(rtt_ms=20, up_mbps=1)) as (link, edge):
        ping_ms(edge)
        threading.Thread(target=edge.send, args=(bytes(1_000_000),), daemon=True).start()
        held_bytes = []
        for _ in range(30):
            time.sleep(0.02)
            held_bytes.append(link.held_bytes)
        assert 0 < max(held_bytes) < 20_000  # 1 Mb/s x (20 ms of queue and a round trip), and a chunk or two


def test_a_message_leaves_at_the_end_of_a_regimes_outage() -> None:
    regimes = (Regime("good", dwell_ms=50.0), Regime("stalled", dwell_ms=50.0, outage=True))
    conditions = Conditions(LinkSpec(regimes=regimes), loss=0.0, seed=1)
    held = 0
    for ms in range(1000):
        regime, ends_ms = conditions.link.regime(ms)
        assert conditions.leaves_ms(ms) == (ends_ms if regime.outage else ms)
        held += regime.outage
    assert 0 < held < 1000


@pytest.mark.parametrize(
    ("change", "said"), [({"rtt": 5.0}, "rtt_ms"), ({"loss": 1.5}, "loss"), ({"up_mbps": 0.0}, "up_mbps")]
)
def test_a_wrong_change_is_refused_and_changes_nothing(change: dict[str, float], said: str) -> None:
    link = EmulatedLink(("127.0.0.1", 1), FAST)
    with pytest.raises(ConfigError, match=said):
        link.change(**change)
    assert link.link.spec == FAST and link.loss == 0.0
