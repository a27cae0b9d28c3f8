"""Rounds as one array with a column for each field of `Round`: how those of a whole run are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

from dsd_gym.records import Round

RoundArray: TypeAlias = NDArray[np.void]
"""One-dimensional, with the fields of `Round` by name, and perhaps others."""

FIELDS = list(Round._fields)
ROUND = np.dtype([(name, {int: np.int64, float: np.float64}[kind]) for name, kind in get_type_hints(Round).items()])


class RoundTable(Sequence[Round]):
    """A sequence of rounds kept as an array; a `Round` is made of a row only when somebody reads it."""

    def __init__(self, array: RoundArray) -> None:
        self.array = array

    def __len__(self) -> int:
        """Return how many rounds there are."""
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> Round: ...
    @overload
    def __getitem__(self, index: slice) -> RoundTable: ...
    def __getitem__(self, index: int | slice) -> Round | RoundTable:
        """Return a round, or the table of some."""
        if isinstance(index, slice):
            return RoundTable(self.array[index])
        return Round._make(self.array[FIELDS][index].item())

    def __iter__(self) -> Iterator[Round]:
        """Yield the rounds in order."""
        return iter(as_rounds(self.array))

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of equal rounds."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def as_rounds(array: RoundArray) -> list[Round]:
    """Return an array's rows as rounds."""
    rows: Iterable[Any] = array[FIELDS].tolist()
    return list(map(Round._make, rows))


def as_array(rounds: Sequence[Round]) -> RoundArray:
    """Return rounds as an array: a table's own, or a new one."""
    return rounds.array if isinstance(rounds, RoundTable) else np.array(rounds, ROUND)
