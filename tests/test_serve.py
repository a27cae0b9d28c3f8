"""The commands of the README with real processes: both ends in one, and one each; and what a mistake is told."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import serve
from dsd_gym.metrics import summarise
from runtime.edge.log import read_log

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "def read(path):"
TOKENS = 24
LICENCE = str(ROOT / "LICENSE")
LARGE, SMALL = (str(serve.TINY_PAIR / end) for end in ("target", "draft"))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "serve.py", *arguments]


def output_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server and yield it with the address that it announces."""
    with subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        announced = ""
        while not announced.startswith("serving"):
            announced = process.stderr.readline()
            assert announced, "ended before it served"
        try:
            yield process, announced.split(" on ")[1].strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """Yield the address of a target with the shipped model."""
    with running("target", "--listen", "127.0.0.1:0") as (_, address):
        yield address


@pytest.fixture(scope="module")
def wanted() -> str:
    """Return the target's own text."""
    return output_of("local", "--prompt", PROMPT, "--max-tokens", str(TOKENS), "--controller", "static:0").stdout


def test_local_needs_nothing_but_a_prompt() -> None:
    done = output_of("local", "--prompt", PROMPT, "--max-tokens", str(TOKENS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(PROMPT) and len(done.stdout) > len(PROMPT) + TOKENS
    assert re.search(r"^tokens +\d+ in \d+ rounds", done.stderr, flags=re.MULTILINE)
    assert re.search(r"^TTFT +[\d.]+ ms", done.stderr, flags=re.MULTILINE)
    assert re.search(r"^windows +\d+ x\d+", done.stderr, flags=re.MULTILINE)


@pytest.mark.parametrize("controller", ["static:0", "static:5", "heuristic", "leviathan", "awc", str(serve.POLICY)])
def test_every_controller_gives_the_targets_own_text_over_grpc(
    target: str, wanted: str, controller: str, tmp_path: Path
) -> None:
    arguments = ("--prompt", PROMPT, "--max-tokens", str(TOKENS))
    log = tmp_path / "session.jsonl"
    done = output_of("edge", "--target", target, *arguments, "--controller", controller, "--log", str(log))
    assert done.returncode == 0, done.stderr
    assert done.stdout == wanted
    records = read_log(log)
    assert sum(round.committed for round in records.rounds) == records.requests[0].output_tokens - 1
    assert summarise(records)["tpot_ms"] > 0.0
    if controller.startswith("static"):
        assert {round.window for round in records.rounds} == {int(controller[-1])}


def test_http_answers_and_ends_in_order_on_sigterm(target: str, wanted: str) -> None:
    with running("edge", "--target", target, "--http", "127.0.0.1:0") as (process, address):
        body = json.dumps({"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}).encode()
        request = urllib.request.Request(f"{address}/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert PROMPT + answer["choices"][0]["text"] + "\n" == wanted
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("target", "--listen", "0.0.0.0:0"), r"0\.0\.0\.0:0: .*(TLS|insecure)"),
        (("target", "--model", "no/such/model/here"), r"no/such/model/here: "),
        (("target", "--max-window", "17"), r"--max-window: expected at most 16"),
        (("edge", "--prompt", "x"), r"--target"),
        (("edge", "--target", "127.0.0.1:1"), r"--prompt --http"),
        (("local", "--prompt", "x", "--controller", "oracle"), r"oracle: reads the simulator"),
        (("local", "--prompt", "x", "--controller", "statik:4"), r"statik:4: unknown controller"),
        (("local", "--prompt", "x", "--draft", LARGE, "--target", SMALL), r"the draft is larger than the target"),
        (("local", "--prompt", "x", "--temperature", "-1"), r"temperature"),
        (("local", "--prompt", "x", "--temperature", "1", "--top-k", "5000000000"), r"top_k 5000000000: must be"),
        (("local", "--prompt", "a\udcff"), r"--prompt: expected text in UTF-8"),
        (("local", "--prompt", "x", "--threads", "9" * 20), r"--threads: expected a whole number below 2\^31"),
        (("local", "--prompt", "x", "--threads", "100000"), r"--threads: expected at most 1024, got 100000"),
        (("local", "--prompt", "x", "--target-pass-ms", "inf"), r"--target-pass-ms: expected a number from 0 on"),
        (("local", "--prompt", "x", "--draft-pass-ms", "fast"), r"--draft-pass-ms: expected a number from 0 on"),
        (("target", "--grace-s", "nan"), r"--grace-s: expected a number from 0 on"),
        (("target", "--idle-timeout-s", "0"), r"--idle-timeout-s: expected a number above 0"),
        (("local", "--http", "nowhere"), r"--http: expected HOST:PORT, got 'nowhere'"),
        (("edge", "--prompt", "x", "--target", "localhost"), r"--target: expected HOST:PORT, got 'localhost'"),
        (("edge", "--prompt", "x", "--target", "http://127.0.0.1:50051"), r"--target: expected HOST:PORT"),
        (("edge", "--prompt", "x", "--target", "127.0.0.1:99999"), r"--target: expected HOST:PORT"),
        (("local", "--http", "0.0.0.0:0"), r"--http 0\.0\.0\.0:0: whoever reaches it .*--api-key-file"),
        (("edge", "--target", "127.0.0.1:1", "--prompt", "x", "--tls-cert", "c.pem"), r"client certificate .*--tls-ca"),
        (("edge", "--target", "target.example:1", "--prompt", "x", "--token-file", LICENCE), r"LICENSE: expected one"),
        (("target", "--listen", "127.0.0.1:0", "--metrics-port", "70000"), r"127\.0\.0\.1:70000: cannot show metrics"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        serve.main(arguments)
    printed = capfd.readouterr()
    assert left.value.code == 2, printed.err
    assert re.fullmatch(rf"error: .*{told}.*\n", printed.err), printed.err
    assert not printed.out


def test_a_target_that_does_not_answer_is_one_line_and_exit_code_1() -> None:
    done = output_of("edge", "--target", "127.0.0.1:1", "--prompt", "x", "--retry-for-s", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: [^\n]*127\.0\.0\.1:1[^\n]*\n", done.stderr), done.stderr


def test_a_target_that_comes_up_later_is_found(wanted: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = ("--prompt", PROMPT, "--max-tokens", str(TOKENS), "--controller", "static:0")
    pipes: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("edge", "--target", address, *arguments), **pipes) as edge:
        assert edge.stderr is not None
        assert edge.stderr.readline() == f"{address}: not there; looking for it (--retry-for-s)\n"
        with running("target", "--listen", address):
            out, _ = edge.communicate(timeout=60)
    assert (edge.returncode, out) == (0, wanted)
