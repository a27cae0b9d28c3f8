"""A recording on disk: JSON lines, a header and one request a line, position after position.

    {"format": "dsd-gym acceptance", "version": 1, "source": "runtime"}
    {"accepted": [null, true, false], "confidence": [null, 0.93, 0.2], "id": "0", "prompt_tokens": 17}

`accepted` has a flag for every output position: would the target accept the draft's guess there? null where nobody
tested it. Position 0 is the first token, which comes from the prefill and is no draft's guess.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.files import write_atomically

FORMAT = "dsd-gym acceptance"
VERSION = 1


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request: flag and confidence of each output position, None where not tested or not known.

    Raises:
        ValueError: a flag that is none, a confidence outside [0, 1], or another number of them than of flags.
    """

    accepted: tuple[bool | None, ...]
    confidence: tuple[float | None, ...] = ()
    """The probability that the draft gave to its guess; empty where none was recorded."""
    id: str | None = None
    kind: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None

    def __post_init__(self) -> None:
        if not all(flag is None or isinstance(flag, bool) for flag in self.accepted):
            raise ValueError("accepted must hold true, false and null alone")
        if self.confidence and len(self.confidence) != len(self.accepted):
            raise ValueError(f"{len(self.confidence)} confidences for {len(self.accepted)} positions")
        if not all(value is None or (_is_number(value) and 0.0 <= value <= 1.0) for value in self.confidence):
            raise ValueError("confidence must hold numbers from 0 to 1 and null alone")

    @property
    def tested(self) -> list[bool]:
        """Return the flags that were tested, in order of position."""
        return [flag for flag in self.accepted if flag is not None]


def write_recording(path: Path, requests: Sequence[RecordedRequest], source: str) -> None:
    """Write a recording whole or not at all; `source` says what it was made from."""
    lines = [json.dumps({"format": FORMAT, "version": VERSION, "source": source})]
    lines += [json.dumps(_record(request)) for request in requests]
    try:
        write_atomically(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def read_recording(path: Path) -> list[RecordedRequest]:
    """Return the requests of a recording; ConfigError names the file and line of what is none."""
    lines = read_lines(path)
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                _check_header(json.loads(line))
            elif line.strip():
                requests.append(_request(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}:{number}: not a line of an acceptance recording: {error}") from None
    if not any(request.tested for request in requests):
        raise ConfigError(f"{path}: the recording has no tested position")
    return requests


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file; ConfigError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split("\n")  # `splitlines` splits inside texts too
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _record(request: RecordedRequest) -> dict[str, Any]:
    record = {field.name: getattr(request, field.name) for field in fields(request)}
    return {name: value for name, value in record.items() if value is not None and value != ()}


def _check_header(header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f'expected the header {{"format": "{FORMAT}", "version": {VERSION}}}')
    if header.get("version") != VERSION:
        raise ValueError(f"version {header.get('version')}; this one reads {VERSION}")


def _request(record: Any) -> RecordedRequest:
    if not isinstance(record, dict) or not isinstance(record.get("accepted"), list):
        raise ValueError('expected an object with a list "accepted"')
    names = [field.name for field in fields(RecordedRequest)]
    for name in record:
        if name not in names:
            raise ValueError(f"unknown key {name}{did_you_mean(name, names)}")
    for name in ("prompt_tokens", "output_tokens"):
        if name in record and not (type(record[name]) is int and record[name] >= 0):
            raise ValueError(f"{name} must be a whole number, not {record[name]!r}")
    for name in {"id", "kind"} & record.keys():
        record[name] = str(record[name])
    record["accepted"], record["confidence"] = tuple(record["accepted"]), tuple(record.get("confidence") or ())
    return RecordedRequest(**record)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
