"""The link emulator in disorder: cuts, resets, refusals, ends that leave, and options that are wrong."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest
from link_ends import FAST, best_ping_ms, connect, echo, linked, ping_ms, receive, serving

from runtime.link import EmulatedLink, main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("under_way", [True, False])
def test_a_cut_delays_and_loses_nothing(under_way: bool) -> None:
    def took_s() -> float:
        began = time.perf_counter()
        if under_way:
            edge.sendall(b"abcdefgh")
            time.sleep(0.13)  # on the way back
        link.cut(0.5)
        if not under_way:
            edge.sendall(b"abcdefgh")
        assert receive(edge, 8) == b"abcdefgh"
        return time.perf_counter() - began

    with linked(echo) as (link, edge):
        ping_ms(edge)
        link.change(rtt_ms=200.0)
        assert 0.6 <= min(took_s() for _ in range(3)) <= 1.1
        assert best_ping_ms(edge, 3) <= 230.0


def test_a_cut_in_the_middle_of_a_stream_delays_and_loses_nothing() -> None:
    data = bytes(range(256)) * 2000  # 0.2 s at 20 Mb/s

    def took_s() -> float:
        sender = threading.Thread(target=edge.sendall, args=(data,))
        began = time.perf_counter()
        sender.start()
        time.sleep(0.1)
        link.cut(0.5)
        assert receive(edge, len(data)) == data
        return time.perf_counter() - began

    with linked(echo, FAST) as (link, edge):
        link.change(up_mbps=20)
        assert 0.65 <= min(took_s() for _ in range(3)) <= 1.1


def test_broken_connections_are_reset_at_both_ends_and_new_ones_live() -> None:
    seen = threading.Event()

    def life(connection: socket.socket) -> None:
        try:
            echo(connection)
        except ConnectionResetError:
            seen.set()

    with linked(life) as (link, edge):
        ping_ms(edge)
        link.break_connections()
        with pytest.raises(ConnectionResetError):
            edge.recv(1)
        assert seen.wait(2.0)
        with connect(link.port) as another:
            ping_ms(another)


@pytest.mark.parametrize(("linger", "end"), [(b"\1\0\0\0\0\0\0\0", "reset"), (bytes(8), "closed")])
def test_an_edge_that_goes_is_seen_by_the_target(linger: bytes, end: str) -> None:
    """With a linger of 0 s, closing is resetting."""
    seen: SimpleQueue[str] = SimpleQueue()

    def life(connection: socket.socket) -> None:
        try:
            echo(connection)
            seen.put("closed")
        except ConnectionResetError:
            seen.put("reset")

    with linked(life) as (link, edge):
        ping_ms(edge)
        edge.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        edge.close()
        assert seen.get(timeout=2.0) == end
        deadline_s = time.monotonic() + 2.0
        while link.connections:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_target_that_dies_is_seen_by_the_edge() -> None:
    def life(connection: socket.socket) -> None:
        connection.recv(1)  # three bytes are left unread: closing is resetting

    with linked(life) as (_, edge), pytest.raises(ConnectionResetError):
        edge.sendall(b"ping")
        edge.recv(1)


def test_refuse_resets_new_connections_alone() -> None:
    with linked(echo) as (link, edge):
        ping_ms(edge)
        link.refuse = True
        with pytest.raises(ConnectionResetError), connect(link.port) as refused:
            refused.recv(1)
        ping_ms(edge)
        link.refuse = False
        with connect(link.port) as another:
            ping_ms(another)


def test_a_connection_is_reset_where_no_target_listens() -> None:
    with serving(echo) as to:
        pass
    with (
        EmulatedLink(to, FAST).in_thread() as link,
        connect(link.port) as edge,
        pytest.raises(ConnectionResetError),
    ):
        edge.recv(1)


def test_the_command_line_runs_a_link_and_its_events() -> None:
    with serving(echo) as (host, port):
        options = f"--listen 127.0.0.1:0 --to {host}:{port} --rtt-ms 30 --jitter-ms 0 --rtt-at 1:90 --outage 1.5:0.4"
        command = [sys.executable, "-m", "runtime.link", *options.split()]
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
        ) as process:
            assert process.stdout and process.stderr
            try:
                listening, _, to = process.stdout.readline().partition(" -> ")
                assert to == f"{host}:{port}\n"
                with connect(int(listening.rpartition(":")[2])) as edge:
                    ping_ms(edge)
                    assert 30.0 <= best_ping_ms(edge, 9) <= 45.0
                    assert process.stdout.readline() == "1 s: RTT 90 ms\n"
                    assert 90.0 <= best_ping_ms(edge, 3) <= 110.0
                    assert process.stdout.readline() == "1.5 s: cut for 0.4 s\n"
                    assert ping_ms(edge) >= 250.0  # of 400, where this reads the line late
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(5.0) == 130
            assert process.stderr.read() == "interrupted\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--listen 127.0.0.1 --to 127.0.0.1:1", "expected HOST:PORT"),
        ("--listen 127.0.0.1:0", "--to"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --rtt-ms -3", "rtt_ms"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --up-mbps 0", "up_mbps"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --down-mbps nan", "down_mbps"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --loss 2", "loss"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --outage 5", "--outage"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --rtt-at 5:-1", "--rtt-at"),
        ("--listen 127.0.0.1:0 --to 127.0.0.1:1 --seed -1", "--seed"),
        ("--listen 192.0.2.1:0 --to 127.0.0.1:1", "--listen 192.0.2.1:0"),  # an address of nobody (RFC 5737)
        ("--listen 127.0.0.1:0 --to nowhere.invalid:1", "--to nowhere.invalid"),
    ],
)
def test_a_bad_option_ends_in_one_line_and_exit_code_2(
    options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(options.split())
    told = capsys.readouterr().err
    assert exit_.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1 and said in told, told
