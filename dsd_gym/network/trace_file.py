"""Bandwidth traces from CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from dsd_gym.config import ConfigError
from dsd_gym.network.bandwidth import BandwidthTrace

COLUMNS = ["time_ms", "up_mbps", "down_mbps"]
OPTIONAL = ["rtt_ms"]
LONE_ROW_MS = 1000.0
"""How long a trace of one row is: any length will do."""


def read_bandwidth(path: str) -> BandwidthTrace:
    """Return the trace in a CSV of time_ms,up_mbps,down_mbps[,rtt_ms]; lines that begin with # are comments.

    A row holds until the next one; the last is as long as the one before it. The first is where the trace begins.

    Raises:
        ConfigError: the file and line of what cannot be read.
    """
    return _read(str(Path(path).expanduser()))


@lru_cache(maxsize=16)
def _read(path: str) -> BandwidthTrace:
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such bandwidth trace (link.trace)")
    try:
        with Path(path).open(encoding="utf-8", newline="") as lines:
            rows = _rows(lines, path)
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{path}: not a text file") from None
    times, up, down, *rtt = ([row[column] for row in rows] for column in range(len(rows[0])))
    for name, rates in (("up_mbps", up), ("down_mbps", down)):
        if not any(rates):
            raise ConfigError(f"{path}: {name} is 0 throughout: nothing would ever pass")
    last_ms = times[-1] - times[-2] if len(times) > 1 else LONE_ROW_MS
    bounds_ms = [time - times[0] for time in (*times, times[-1] + last_ms)]
    return BandwidthTrace(bounds_ms, up, down, rtt[0] if rtt else [])


def _rows(lines: Iterable[str], path: str) -> list[list[float]]:
    """Return the numbers of each row, in the order of the columns."""
    rows: list[list[float]] = []
    header: list[str] | None = None
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        if not cells or cells[0].startswith("#"):
            continue
        if header is None:
            header = cells
            if cells not in (COLUMNS, COLUMNS + OPTIONAL):
                raise ConfigError(f"{path}:{number}: expected the columns time_ms,up_mbps,down_mbps and maybe rtt_ms")
            continue
        rows.append(_numbers(cells, header, f"{path}:{number}"))
        if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
            raise ConfigError(f"{path}:{number}: time_ms must rise from row to row")
    if not rows:
        raise ConfigError(f"{path}: the trace has no rows")
    return rows


def _numbers(cells: list[str], header: list[str], where: str) -> list[float]:
    if len(cells) != len(header):
        raise ConfigError(f"{where}: expected {len(header)} values, got {len(cells)}")
    numbers = []
    for name, cell in zip(header, cells, strict=True):
        try:
            numbers.append(float(cell))
        except ValueError:
            raise ConfigError(f"{where}: {name}: expected a number, got {cell!r}") from None
        if not 0.0 <= numbers[-1] < math.inf:
            raise ConfigError(f"{where}: {name}: must be a finite number from 0 on, got {cell}")
    return numbers
