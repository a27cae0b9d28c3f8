"""Text out of two models: the draft at the edge, the target in the cloud, a controller that chooses the window.

python serve.py local --prompt "def read(path):"                         both ends in one process, for a first try
python serve.py target --model MODEL --listen 127.0.0.1:50051            the cloud's end
python serve.py edge --draft DRAFT --target 127.0.0.1:50051 --prompt "..."   the edge's end: one prompt,
python serve.py edge --draft DRAFT --target 127.0.0.1:50051 --http 127.0.0.1:8000   or an OpenAI-compatible server

A model is a local folder or a hub id of transformers; without one, the tiny pair that comes with the project serves.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from dsd_gym.files import Parser, exits_cleanly, number_above_0, number_from_0, whole_number
from dsd_gym.observation import MAX_WINDOW
from runtime.address import address

ROOT = Path(__file__).resolve().parent
TINY_PAIR = ROOT / "runtime" / "pairs" / "tiny"
POLICY = ROOT / "policies" / "edge_cloud.safetensors"
MOST_THREADS = 1024


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one end, or both."""
    options = _parser().parse_args(arguments)
    from runtime import commands  # torch and transformers take seconds to import

    command = {"target": commands.target, "edge": commands.edge, "local": commands.local}[options.command]
    try:
        asyncio.run(command(options))
    except commands.UNSERVED as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser("serve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="target | edge | local")
    target = commands.add_parser("target", help="the cloud's end: a gRPC server around the target model")
    _add_target_model(target, "--model")
    _add_server(target)
    edge = commands.add_parser("edge", help="the edge's end: the draft model and the controller")
    edge.add_argument("--target", type=address, required=True, metavar="HOST:PORT", help="where the target listens")
    _add_connection(edge)
    _add_edge(edge)
    local = commands.add_parser("local", help="both ends in one process")
    _add_target_model(local, "--target")
    _add_edge(local)
    return parser


def _add_target_model(parser: argparse.ArgumentParser, name: str) -> None:
    add = parser.add_argument
    add(name, dest="model", default=str(TINY_PAIR / "target"), help="target model (default: the tiny pair's)")
    add("--kv-budget", type=whole_number, metavar="TOKENS", help="KV cache of all (default: 16 contexts, or what fits)")
    add("--max-window", type=_window, default=MAX_WINDOW, help="longest window that is verified (default: 16)")
    add("--max-batch-tokens", type=whole_number, default=512, help="tokens of one pass, with prefill (default: 512)")
    add("--max-queue", type=whole_number, default=64, help="requests that may wait for memory (default: 64)")
    add("--target-pass-ms", type=number_from_0, default=0.0, metavar="MS", help="stretch passes to a larger model's")
    add("--cloud-chunk", type=whole_number, default=8, help="tokens of one message in cloud decoding (default: 8)")
    _add_machine(parser)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--device", help="of torch, such as cpu or cuda:0 (default: cuda where there is one)")
    parser.add_argument("--threads", type=_threads, default=1, help="of torch on a CPU (default: 1)")


def _add_server(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--listen", type=address, default="127.0.0.1:50051", metavar="HOST:PORT", help="default: 127.0.0.1:50051")
    add("--tls-cert", type=Path, metavar="PEM", help="server certificate")
    add("--tls-key", type=Path, metavar="PEM", help="its key")
    add("--client-ca", type=Path, metavar="PEM", help="require client certificates that this authority has signed")
    add("--tokens", type=Path, metavar="FILE", help="bearer tokens, one a line, `name:token` or `token`")
    add("--insecure", action="store_true", help="listen beyond loopback without TLS and tokens")
    add("--metrics-port", type=whole_number, metavar="PORT", help="serve Prometheus metrics on this port of 127.0.0.1")
    add("--idle-timeout-s", type=number_above_0, default=120.0, help="silence that ends a session (default: 120)")
    add("--sessions-per-client", type=whole_number, default=64, help="default: 64")
    add("--grace-s", type=number_from_0, default=30.0, help="time for sessions to finish after SIGTERM (default: 30)")


def _add_connection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tls-ca", type=Path, metavar="PEM", help="authority that signed the target's certificate: use TLS")
    add("--tls-cert", type=Path, metavar="PEM", help="client certificate")
    add("--tls-key", type=Path, metavar="PEM", help="its key")
    add("--token-file", type=Path, metavar="FILE", help="file that holds the bearer token")
    add("--retry-for-s", type=number_from_0, default=60.0, help="how long a lost target is looked for (default: 60)")


def _add_edge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--draft", default=str(TINY_PAIR / "draft"), help="draft model (default: the tiny pair's)")
    add("--controller", default=str(POLICY), help="static:K, heuristic, leviathan, awc or a policy (default: ours)")
    add("--draft-pass-ms", type=number_from_0, default=0.0, metavar="MS", help="stretch passes to a slower device's")
    add("--fallback-window", type=whole_number, default=4, help="serves where the controller fails (default: 4)")
    add("--log", type=Path, metavar="FILE", help="append every round as a JSON line")
    face = parser.add_mutually_exclusive_group(required=True)
    face.add_argument("--prompt", type=_text, help="complete this text, and say how it went")
    face.add_argument("--http", type=address, metavar="HOST:PORT", help="serve the OpenAI API, completions and chat")
    add("--chat", action="store_true", help="put the prompt into the model's chat template")
    add("--api-key-file", type=Path, metavar="FILE", help="key that HTTP clients must send")
    add("--insecure", action="store_true", help="beyond loopback: send the token without TLS, serve HTTP without a key")
    add("--max-tokens", type=whole_number, default=128, help="default: 128")
    add("--temperature", type=float, default=0.0, help="0 is greedy (default: 0)")
    add("--top-p", type=float, default=1.0)
    add("--top-k", type=int, default=0, help="0 keeps all (default: 0)")
    add("--seed", type=int, default=0)
    if not any(action.dest == "threads" for action in parser._actions):
        _add_machine(parser)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("expected text in UTF-8") from None
    return text


def _threads(text: str) -> int:
    if (count := whole_number(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_THREADS}, got {text}")
    return count


def _window(text: str) -> int:
    window = whole_number(text)
    if window > MAX_WINDOW:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_WINDOW}, which an observation can hold, got {text}")
    return window


if __name__ == "__main__":
    main()
