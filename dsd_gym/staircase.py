"""The kernel staircase: what the token-parallel part of a pass takes, as measured (`configs/staircase.yaml`).

A matrix kernel computes whole tiles, so one token more is free until a tile is full and then costs a step. The smooth
fit of `configs/hardware.yaml` draws a line through the steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

from dsd_gym.config import ConfigError, Count, NonNegative, Positive, build, read_yaml
from dsd_gym.hardware import TargetHardware, Text

STAIRCASE_FILE = Path(__file__).resolve().parents[1] / "configs" / "staircase.yaml"
_SHOWN_FILE = "configs/staircase.yaml"
_DENSE_TOKENS = 512
"""Up to here the measured sizes are as close as tiles are, so a size between two costs what the larger costs."""
_TILE_TOKENS = 128
"""Beyond, a pass is filled up to whole tiles, whose cost is interpolated between the sizes measured."""


@dataclass(frozen=True)
class StaircaseRow:
    """One model on one group of devices; ms at the sizes of the table."""

    kernels: tuple[Positive, ...]
    """Matrix products and the output layer: they come in steps."""
    others: tuple[NonNegative, ...]
    """Elementwise kernels and all-reduce: they grow evenly."""
    source: Text


@dataclass(frozen=True)
class Staircases:
    """The whole table, by the names of the rows of configs/hardware.yaml."""

    tokens: tuple[Count, ...]
    rows: dict[str, StaircaseRow]

    def __post_init__(self) -> None:
        if list(self.tokens) != sorted(set(self.tokens)) or self.tokens[:1] != (1,):
            raise ValueError("tokens must begin with 1 and increase")
        for name, row in self.rows.items():
            if not len(row.kernels) == len(row.others) == len(self.tokens):
                raise ValueError(f"{name}: kernels and others must have {len(self.tokens)} figures, as tokens has")


class StaircaseCost:
    """What a pass takes on `row`: measured steps for its tokens, the fitted attention for its contexts.

    Larger passes are never cheaper: where the measurements fall (by 11 % at most), a smaller pass is taken to be filled
    up to the cheaper larger one.
    """

    def __init__(self, row: TargetHardware) -> None:
        self._row, self._table_ms = row, staircase_ms(row.name)
        self.one_token_iteration_ms = self.iteration_ms(1, 1, 0)

    def iteration_ms(self, tokens: int, sequences: int, context_tokens: int) -> float:
        """Return the ms of one forward pass; see `latency.iteration_ms`."""
        row, linear_ms = self._row, self._linear_ms(tokens)
        if sequences == 0:
            return linear_ms
        attention_ms = row.attention_fixed_ms + row.attention_sequence_ms * sequences
        return linear_ms + attention_ms + row.attention_context_ms * context_tokens

    def added_tokens_ms(self, tokens: int, added: int) -> float:
        """Return the extra ms that the last `added` of `tokens` tokens bring: the steps between the two sizes."""
        return self._linear_ms(tokens) - self._linear_ms(tokens - added)

    def _linear_ms(self, tokens: int) -> float:
        """Return the ms of a pass without its attention; the table's last line is prolonged."""
        table_ms, last = self._table_ms, len(self._table_ms) - 1
        if tokens <= last:
            return table_ms[tokens]
        return table_ms[last] + (tokens - last) * (table_ms[last] - table_ms[last // 2]) / (last - last // 2)


@cache
def load_staircases() -> Staircases:
    """Return the table; ConfigError names the row and key that is wrong."""
    return build(Staircases, read_yaml(STAIRCASE_FILE), source=_SHOWN_FILE)


@cache
def staircase_ms(name: str) -> Sequence[float]:
    """Return the ms of a pass without its attention, for 0 tokens (what one costs) to the largest size measured."""
    table = load_staircases()
    if name not in table.rows:
        raise ConfigError(f"{_SHOWN_FILE}: no row {name}; use latency_model: smooth")
    sizes, row = table.tokens, table.rows[name]
    at_sizes = [kernels + others for kernels, others in zip(row.kernels, row.others, strict=True)]
    rising = _rising(at_sizes)
    filled = [rising[0]]
    for tokens in range(1, sizes[-1] + 1):
        ms = _interpolated(sizes, row.kernels, _whole_tiles(sizes, tokens)) + _interpolated(sizes, row.others, tokens)
        at = bisect_left(sizes, tokens)
        filled.append(min(max(ms, rising[max(at - 1, 0)]), rising[at]))
    return _rising(filled)


def _rising(values: Sequence[float]) -> list[float]:
    """Return the least of each value and those after it."""
    return list(accumulate(reversed(values), min))[::-1]


def _whole_tiles(sizes: Sequence[int], tokens: int) -> int:
    """Return the size that the matrix kernels compute."""
    if tokens > _DENSE_TOKENS:
        return -(-tokens // _TILE_TOKENS) * _TILE_TOKENS
    return sizes[bisect_left(sizes, tokens)]


def _interpolated(sizes: Sequence[int], values: Sequence[float], tokens: int) -> float:
    """Return the value at `tokens` on straight lines between the sizes."""
    at = min(max(bisect_left(sizes, tokens), 1), len(sizes) - 1)
    share = (tokens - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
    return values[at - 1] + share * (values[at] - values[at - 1])
