"""A session on disk: JSON lines, one for each round and each request, and the way back to `Records`.

A run begins with a header (`kind` "run"). A line of kind "round" holds the fields of `Round`, the raw observation
that was decided on and the draft's confidence in each drafted token; one of kind "request" those of `RequestRecord`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsd_gym.config import ConfigError
from dsd_gym.observation import Observation
from dsd_gym.records import Records, RequestRecord, Round, Status
from dsd_gym.scenario import Slo

FORMAT = 1
REQUEST_FIELDS = RequestRecord.__slots__[: RequestRecord.__slots__.index("status") + 1]
"""What a runtime knows of a request: those after them are a simulation's."""

_log = logging.getLogger(__name__)


class SessionLog:
    """Append one run to a file, flushed line by line; written from the event loop alone."""

    def __init__(self, path: Path, *, controller: str, draft: str, target: str) -> None:
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        self._path = path
        header = {"format": FORMAT, "controller": controller, "draft": draft, "target": target}
        clock = {"clock": "monotonic ms", "now_ms": time.monotonic() * 1000.0}
        self._write("run", header | clock | {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})

    def round(self, round: Round, observation: Observation, confidences: Sequence[float]) -> None:
        """Enter a round, with what it was decided on and the draft's confidences."""
        raw = {name: float(value) for name, value in observation._asdict().items()}
        self._write("round", round._asdict() | {"observation": raw, "confidences": list(confidences)})

    def request(self, request: RequestRecord) -> None:
        """Enter a request that has ended."""
        self._write("request", {name: getattr(request, name) for name in REQUEST_FIELDS})

    def close(self) -> None:
        """End the file; what comes later is lost."""
        self._file.close()

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        """Write one line; a disk that is full ends the log and not the service."""
        if self._file.closed:
            return
        try:
            self._file.write(json.dumps({"kind": kind} | fields) + "\n")
            self._file.flush()
        except OSError as error:
            _log.warning("%s: cannot be written: %s; nothing more is logged", self._path, error.strerror)
            with contextlib.suppress(OSError):  # closing flushes once more
                self._file.close()


def read_log(path: Path) -> Records:
    """Return the last run of a log; ConfigError names the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    name, rounds, requests = "", [], []  # type: tuple[str, list[Round], list[RequestRecord]]
    for number, line in enumerate(lines, start=1):
        try:
            kind, fields = _parse(line)
            if kind == "run":
                name, rounds, requests = str(fields["controller"]), [], []
            elif kind == "round":
                rounds.append(Round(**_numbers(fields, Round._fields)))
            else:
                status = Status(fields.pop("status"))
                requests.append(RequestRecord(**_numbers(fields, REQUEST_FIELDS[:-1]), status=status))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}:{number}: not a line of a session log: {_reason(error)}") from None
    return run_records(name, requests, rounds)


def run_records(name: str, requests: Sequence[RequestRecord], rounds: Sequence[Round]) -> Records:
    """Return what a run left behind as `Records`, from the first arrival to the last round.

    One that was rejected or left before its first token is charged the length of the run; SLOs are the scenario's
    defaults.
    """
    start_ms = min((request.arrival_ms for request in requests), default=0.0)
    known = [request.finish_ms or request.first_token_ms or request.arrival_ms for request in requests]
    last_ms = max([start_ms, *known, *(round.end_ms for round in rounds)])
    end_ms = math.nextafter(last_ms, math.inf)  # the interval is open at its end
    length_ms, slo = end_ms - start_ms, Slo()
    return Records(name, 0, start_ms, end_ms, length_ms, end_ms, slo.ttft_ms, slo.tpot_ms, list(requests), list(rounds))


def _parse(line: str) -> tuple[str, dict[str, Any]]:
    fields = json.loads(line)
    if not isinstance(fields, dict) or fields.get("kind") not in ("run", "round", "request"):
        raise ValueError('expected an object of kind "run", "round" or "request"')
    if fields["kind"] == "run" and fields.get("format") != FORMAT:
        raise ValueError(f"format {fields.get('format')}; this version reads {FORMAT}")
    return fields["kind"], fields


def _numbers(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        if not isinstance(fields[name], int | float | None) or isinstance(fields[name], bool):
            raise ValueError(f"{name} is not a number")
    return {name: fields[name] for name in names}


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
