"""Recorded workloads: the CSV of Azure's LLM traces and the JSON lines of dsdSim and Mooncake."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from dsd_gym.config import ConfigError

T = TypeVar("T")


class TraceRow(NamedTuple):
    """One recorded request; `arrival_ms` counts from the first."""

    arrival_ms: float
    prompt_tokens: int
    output_tokens: int


def read_trace(path: str, trace_format: str | None = None) -> tuple[TraceRow, ...]:
    """Return the rows of a trace in order of arrival; ConfigError names the file and line of what cannot be read."""
    return _read(str(Path(path).expanduser()), trace_format)


@lru_cache(maxsize=4)
def _read(path: str, trace_format: str | None) -> tuple[TraceRow, ...]:
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path}: no such trace (workload.trace)")
    with file.open(encoding="utf-8") as lines:
        try:
            parse = _PARSERS[trace_format or _recognise(file)]
            rows = sorted(parse(lines, path))
        except (UnicodeDecodeError, csv.Error):
            raise ConfigError(f"{path}: not a text file") from None
    if not rows:
        raise ConfigError(f"{path}: the trace has no requests")
    first = rows[0].arrival_ms
    return tuple(row._replace(arrival_ms=row.arrival_ms - first) for row in rows)


def _recognise(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        first = lines.readline()
    for name, mark in (("azure", "ContextTokens"), ("dsdsim", '"arrival_ms"'), ("mooncake", '"input_length"')):
        if mark in first:
            return name
    raise ConfigError(f"{file}: not an Azure CSV, dsdSim JSONL or Mooncake JSONL trace")


def _azure(lines: Iterable[str], path: str) -> list[TraceRow]:
    """Azure/AzurePublicDataset, CC-BY-4.0: TIMESTAMP, ContextTokens, GeneratedTokens."""

    def row(record: dict[str, str]) -> TraceRow:
        moment = datetime.fromisoformat(record["TIMESTAMP"].strip()[:26])  # a seventh digit is cut off
        seconds = moment.replace(tzinfo=UTC).timestamp()  # not local time, which jumps twice a year
        return TraceRow(seconds * 1000.0, int(record["ContextTokens"]), int(record["GeneratedTokens"]))

    reader = csv.DictReader(lines)
    return _parsed(((reader.line_num, record) for record in reader), row, path)


def _dsdsim(lines: Iterable[str], path: str) -> list[TraceRow]:
    """The yfzzzyyls/dsdSim repository, MIT: arrival_ms, prompt_tokens, target_tokens a line."""

    def row(line: str) -> TraceRow:
        record = json.loads(line)
        return TraceRow(float(record["arrival_ms"]), int(record["prompt_tokens"]), int(record["target_tokens"]))

    return _parsed(_numbered(lines), row, path)


def _mooncake(lines: Iterable[str], path: str) -> list[TraceRow]:
    """The kvcache-ai/Mooncake repository: timestamp (ms), input_length, output_length a line."""

    def row(line: str) -> TraceRow:
        record = json.loads(line)
        return TraceRow(float(record["timestamp"]), int(record["input_length"]), int(record["output_length"]))

    return _parsed(_numbered(lines), row, path)


def _numbered(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _parsed(records: Iterable[tuple[int, T]], row: Callable[[T], TraceRow], path: str) -> list[TraceRow]:
    rows = []
    for number, record in records:
        try:
            rows.append(row(record))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"{path}:{number}: not a request of this trace format ({error})") from None
        if not math.isfinite(rows[-1].arrival_ms):
            raise ConfigError(f"{path}:{number}: the arrival is not a finite number")
        if rows[-1].prompt_tokens < 0 or rows[-1].output_tokens < 0:
            raise ConfigError(f"{path}:{number}: a token count is negative")
    return rows


_PARSERS = {"azure": _azure, "dsdsim": _dsdsim, "mooncake": _mooncake}
