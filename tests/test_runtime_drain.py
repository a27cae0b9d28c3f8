"""A target's process ends as it is told: after its sessions on one signal, at once on two."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.messages import Disconnected
from tests.target_serving import PROMPT, greedy, remote, request, speculate

ROOT = Path(__file__).parents[1]
SERVE = """
import asyncio
from runtime.target.engine import Engine
from runtime.target.limits import Limits
from runtime.target.server import ServerOptions, serve_target
from tests.target_serving import TOKENIZER, tiny_language_model

engine = Engine(tiny_language_model(), TOKENIZER, Limits())
engine.start()
asyncio.run(serve_target(engine, ServerOptions(listen="127.0.0.1:0", grace_s=20.0)))
engine.stop()
"""


@contextmanager
def target_process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a target in a process of its own; yield it and its port."""
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("serving tiny on 127.0.0.1:"), line + process.stderr.read()
            yield process, int(line.rpartition(":")[2])
        finally:
            process.kill()


def test_first_signal_lets_sessions_end() -> None:
    async def run(process: subprocess.Popen[str], port: int) -> None:
        async with remote(port) as target, remote(port) as late:
            stream = await target.open(request(100))
            await late.describe()
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            with pytest.raises(Disconnected, match="shutting down"):
                await late.open(request(100))
            assert tuple(await speculate(stream, greedy(PROMPT, 100))) == greedy(PROMPT, 100)

    with target_process() as (process, port):
        asyncio.run(run(process, port))
        output, errors = process.communicate(timeout=10.0)
        assert (process.returncode, output, errors) == (0, "", "")


def test_second_signal_cuts_sessions_off() -> None:
    async def run(process: subprocess.Popen[str], port: int) -> None:
        async with remote(port) as target:
            stream = await target.open(request(100))
            await stream.receive()
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            assert process.poll() is None
            began_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            with pytest.raises(Disconnected, match="the target has stopped"):
                await stream.receive()
            assert time.monotonic() - began_s < 2.0

    with target_process() as (process, port):
        asyncio.run(run(process, port))
        _, errors = process.communicate(timeout=10.0)
        assert (process.returncode, errors) == (0, "")
