"""The measurements as people and programs read them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from runtime.measure.links import Cell, measure_links
from runtime.measure.speed import measure_runtime


def speed(repeats: int, as_json: bool) -> str:
    """Return what the runtime achieves, as JSON or as lines."""
    figures = asyncio.run(measure_runtime(repeats))
    return json.dumps(figures) if as_json else "\n".join(f"{name:24} {_told(value)}" for name, value in figures.items())


def links(repeats: int, as_json: bool) -> str:
    """Return tokens/s over the emulated link, as JSON or as Markdown tables."""
    tables = measure_links(repeats)
    if as_json:
        return json.dumps({name: [_flat(cell) for cell in cells] for name, cells in tables.items()})
    return "\n\n".join(f"{name}\n\n{_markdown(cells)}" for name, cells in tables.items())


def _told(value: dict[str, float]) -> str:
    if "median" in value:
        return f"{value['median']:8.3f}   [{value['low']:.3f}, {value['high']:.3f}]"
    return "   ".join(f"{name} {share:.2%}" for name, share in value.items())


def _flat(cell: Cell) -> dict[str, Any]:
    return cell._asdict() | {"tokens_s": cell.tokens_s._asdict()}


def _markdown(cells: list[Cell]) -> str:
    rows = ["| RTT, ms | controller | tokens/s [least, most] | mean window | cloud share |"]
    rows.append("| --: | --- | --: | --: | --: |")
    for cell in cells:
        rate = f"{cell.tokens_s.median:.1f} [{cell.tokens_s.low:.1f}, {cell.tokens_s.high:.1f}]"
        rows.append(
            f"| {cell.rtt_ms:g} | {cell.controller} | {rate} | {cell.mean_window:.1f} | {cell.cloud_share:.0%} |"
        )
    return "\n".join(rows)
