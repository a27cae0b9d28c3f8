"""Make an acceptance recording of what the runtime or vLLM logged, for `acceptance: {profile: recorded, file: ...}`.

python -m dsd_gym.record_acceptance session.jsonl --format runtime --out recording.jsonl
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsd_gym.config import ConfigError
from dsd_gym.files import Parser, exits_cleanly
from dsd_gym.recorded import RecordedAcceptance, RecordedRequest, write_recording
from dsd_gym.recorded.hazard import fit_hazard
from dsd_gym.recorded.session_log import read_session_log
from dsd_gym.recorded.vllm import read_vllm

IMPORTERS = {"runtime": read_session_log, "vllm": read_vllm}


def import_recording(source: Path, source_format: str, out: Path) -> list[RecordedRequest]:
    """Write what `source` recorded to `out` and return it; ConfigError where it tested nothing."""
    requests = [request for request in IMPORTERS[source_format](source) if len(request.accepted) > 1]
    if not any(request.tested for request in requests):
        raise ConfigError(f"{source}: no draft was verified in it, so there is no acceptance to record")
    if out.exists() and out.samefile(source):
        raise ConfigError(f"--out {out}: this is the source itself")
    write_recording(out, requests, f"{source_format} {source.name}")
    return requests


def summary(requests: Sequence[RecordedRequest]) -> str:
    """Return in one line how much of a recording was tested, and how it came out."""
    positions = sum(len(request.accepted) - 1 for request in requests)
    flags = [flag for request in requests for flag in request.tested]
    mean = RecordedAcceptance(tuple(requests), fit_hazard(requests)).mean_acceptance
    return (
        f"{len(requests)} requests, {positions} positions, {len(flags) / positions:.1%} of them tested: "
        f"{sum(flags) / len(flags):.1%} accepted; with the untested ones filled in {mean:.1%}"
    )


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Import, and say what was found."""
    parser = Parser(prog="python -m dsd_gym.record_acceptance", description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="a session log, or vLLM's responses as JSON or JSON lines")
    parser.add_argument("--format", choices=IMPORTERS, required=True, help="who wrote the source")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the recording")
    options = parser.parse_args(arguments)
    print(f"{options.out}: {summary(import_recording(options.source, options.format, options.out))}")


if __name__ == "__main__":
    main()
