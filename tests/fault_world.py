"""A world that goes wrong: target processes to kill, pause and start again, and traps that spring in a certain call.

The shipped pair serves, in float32: in half precision two tokens may tie, and a tie falls as the batch happens to be.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import serve
from agents import make_controller
from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from runtime import commands  # noqa: F401  # what a target's process needs is imported before it is forked
from runtime.edge.client import RemoteTarget
from runtime.edge.draft import Draft
from runtime.edge.edge import Edge, Progress
from runtime.messages import Opening, Sampling, Stream
from runtime.model import LanguageModel
from runtime.pair import fingerprint, load_tokenizer
from tests.serving import wait_until

PAIR = serve.TINY_PAIR
ROOT = Path(serve.__file__).parent
MAX_WINDOW = 16
TOKENS = 96
TEXTS = ("def read(path):\n", '{"name": "', "12 + 30 = ", "class Queue:\n", "import os\n", "for i in x:\n", "INFO ")

torch.set_num_threads(1)


# --- the target -------------------------------------------------------------------------------------------------------


class TargetProcess:
    """`serve.py target` in a process of its own; it keeps its ports when it is started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.starts = 0
        self._folder, self._options, self._pid = folder, options, 0
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and return when it serves."""
        self.starts += 1
        ports = ("--listen", f"127.0.0.1:{self.port}", "--metrics-port", str(self.metrics_port))
        model = ("--model", str(PAIR / "target"), "--dtype", "float32", "--device", "cpu")
        self._pid = _fork(self._log, "target", *model, *ports, *self._options)
        wait_until(lambda: self._log.exists() and "serving" in self._log.read_text())

    def kill(self) -> None:
        """End it at once, as a crash does."""
        os.kill(self._pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{self._pid}").exists())

    def restart(self) -> None:
        """Kill it, and start it again meanwhile: `ready` waits for that."""
        self.kill()
        self._starting = threading.Thread(target=self.start)
        self._starting.start()

    def pause(self) -> None:
        """Let it fall silent; its connections stay."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def ready(self) -> None:
        """Wait until it serves, holds no session, and has had nothing to complain of."""
        if self._starting:
            self._starting.join()
        wait_until(lambda: self.metric("num_requests_running") == self.metric("kv_cache_usage_perc") == 0.0)
        assert self.metric("num_requests_waiting") == 0.0
        assert "Traceback" not in self._log.read_text(), self._log.read_text()

    def metric(self, name: str) -> float:
        """Return a value of its Prometheus page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as answer:
            page: str = answer.read().decode()
        return float(next(line for line in page.splitlines() if line.startswith(f"dsd:{name} ")).split()[1])

    @property
    def resident_mb(self) -> float:
        """Return its memory, in 10^6 bytes."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return float(status.partition("VmRSS:")[2].split()[0]) * 1.024e-3

    @property
    def _log(self) -> Path:
        return self._folder / f"target-{self.starts}.log"


@contextmanager
def target_process(folder: Path, *options: str) -> Iterator[TargetProcess]:
    """Run a target."""
    target = TargetProcess(folder, *options)
    target.start()
    try:
        yield target
    finally:
        target.kill()


def _fork(log: Path, *arguments: str) -> int:
    """Run `serve.py` in a fork of a process that has its imports, which take seconds, and return its pid."""
    nursery = _nursery()
    assert nursery.stdin and nursery.stdout
    nursery.stdin.write(json.dumps([str(log), *arguments]) + "\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


@cache
def _nursery() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from tests.fault_world import nursery; nursery()"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def nursery() -> None:
    """Fork a `serve.py` for each line of standard input, a log and arguments, and kill them all at its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no burial
    pids = []
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        if pid := os.fork():
            pids.append(pid)
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
        serve.main(arguments)
        os._exit(0)
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# --- the edge ---------------------------------------------------------------------------------------------------------


class Trap:
    """A target with a trap: `spring` runs as soon as call `number` of a kind, over all streams, has been made."""

    def __init__(self, target: RemoteTarget, call: str, number: int, spring: Callable[[], None]) -> None:
        self._target, self._left, self._spring = target, {call: number}, spring
        self.tries = 0
        """Openings, those that failed included."""
        self.opened: list[int] = []
        """The committed tokens that each stream began with."""

    def arm(self, call: str, number: int, spring: Callable[[], None] | None = None) -> None:
        """Set the trap again, counting from here."""
        self._left, self._spring = {call: number}, spring or self._spring

    async def open(self, opening: Opening) -> Any:
        """Begin a request."""
        self.tries += 1
        stream = await self._target.open(opening)
        self.opened.append(len(opening.committed))
        self.made("open")
        return TrappedStream(self, stream)

    def made(self, call: str) -> None:
        """Count a call that has been made."""
        self._left[call] = self._left.get(call, 0) - 1
        if self._left[call] == 0:
            self._spring()


class TrappedStream:
    """Pass everything on, and tell the trap."""

    def __init__(self, trap: Trap, stream: Stream) -> None:
        self._trap, self._stream = trap, stream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        if name not in ("verify", "decode", "stop", "receive"):
            return found

        async def told(*arguments: Any) -> Any:
            result = await found(*arguments)
            self._trap.made(name)
            return result

        return told


class Windows(Controller):
    """Decide the same windows over and over: for each stream those of its number, in turn."""

    def __init__(self, *windows: Sequence[int]) -> None:
        self._windows, self._rounds = windows, Counter[int]()

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the stream's next window."""
        windows = self._windows[stream % len(self._windows)]
        self._rounds[stream] += 1
        return Decision(windows[(self._rounds[stream] - 1) % len(windows)])


class Witness(Controller):
    """Decide as another controller does, and keep what it saw and decided."""

    def __init__(self, spec: str) -> None:
        self._controller = make_controller(spec, MAX_WINDOW)
        self.seen: list[Observation] = []
        self.decided: list[int] = []

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the other's decision."""
        decision = self._controller.decide(observation, stream)
        self.seen.append(observation)
        self.decided.append(decision.window)
        return decision


@asynccontextmanager
async def edge_to(
    port: int,
    controller: Controller,
    call: str = "",
    number: int = 0,
    spring: Callable[[], None] = lambda: None,
    retry_for_s: float = 60.0,
    draft_pass_ms: float = 0.0,
    **options: Any,
) -> AsyncIterator[tuple[Edge, Trap]]:
    """Yield an edge of a port of this machine, with a trap on the way; one at a time."""
    _draft().min_pass_ms = draft_pass_ms
    remote = RemoteTarget(f"127.0.0.1:{port}", _tokenizer()[1], **options)
    trap = Trap(remote, call, number, spring)
    edge = Edge(Draft(_draft()), trap, controller, max_window=MAX_WINDOW, retry_for_s=retry_for_s)  # type: ignore[arg-type]
    try:
        yield edge, trap
        assert edge.fallbacks == 0
    finally:
        edge.close()
        await remote.close()


@cache
def _draft() -> LanguageModel:
    return LanguageModel.load(PAIR / "draft", "float32", "cpu")


@cache
def _tokenizer() -> tuple[Any, str]:
    tokenizer = load_tokenizer(PAIR / "target")
    return tokenizer, fingerprint(tokenizer)


@cache
def prompts() -> list[list[int]]:
    """Return a few prompts, as tokens."""
    return [_tokenizer()[0](text)["input_ids"] for text in TEXTS]


# --- what must come out -----------------------------------------------------------------------------------------------


async def generated(edge: Edge, prompt: Sequence[int], tokens: int = TOKENS) -> list[Round]:
    """Generate greedily and return the rounds; nothing may be lost, doubled or other than transformers has it."""
    progress: list[Progress] = []
    async for step in edge.generate(prompt, Sampling(), tokens, ignore_eos=True):
        progress.append(step)
    rounds = [step.round for step in progress if step.round]
    assert [token for step in progress for token in step.tokens] == expected(prompt, tokens)
    assert sum(round.committed for round in rounds) == tokens - 1
    assert [round.start_ms for round in rounds[1:]] == [round.end_ms for round in rounds[:-1]]
    assert [step.finish for step in progress] == [""] * (len(progress) - 1) + ["length"]
    return rounds


def expected(prompt: Sequence[int], tokens: int = TOKENS) -> list[int]:
    """Return what transformers generates greedily."""
    assert tokens <= TOKENS
    return _continuation(tuple(prompt))[:tokens]


@cache
def _continuation(prompt: tuple[int, ...]) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    output = _target().generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS, eos_token_id=None)
    found: list[int] = output[0, len(prompt) :].tolist()
    assert len(found) == TOKENS
    return found


@cache
def _target() -> Any:
    model = AutoModelForCausalLM.from_pretrained(PAIR / "target", dtype=torch.float32)
    model.generation_config.eos_token_id = None
    return model
