"""What a controller keeps of each draft-target pair, found by stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Pairs(Generic[T]):
    """A `T` for each (device, target) that has begun a stream; it outlives the stream.

    A stream that was never begun (a controller asked directly) has a `T` of its own, which ends with it.
    """

    make: Callable[[], T] = field(compare=False)
    _of_pair: dict[tuple[int, int], T] = field(default_factory=dict)
    _of_stream: dict[int, T] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many streams are known: begun or asked for, and not forgotten."""
        return len(self._of_stream)

    def begin(self, stream: int, device: int, target: int) -> None:
        """Let a stream share what is kept of its pair."""
        pair = device, target
        if pair not in self._of_pair:
            self._of_pair[pair] = self.make()
        self._of_stream[stream] = self._of_pair[pair]

    def of(self, stream: int) -> T:
        """Return what is kept for a stream."""
        kept = self._of_stream.get(stream)
        if kept is None:
            kept = self._of_stream[stream] = self.make()
        return kept

    def forget(self, stream: int) -> None:
        """Drop a stream that ended."""
        self._of_stream.pop(stream, None)
