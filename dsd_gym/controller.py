"""What the simulator and the runtime ask of whoever decides."""

from __future__ import annotations

from typing import Protocol

from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round


class Controller(Protocol):
    """Whoever decides. One object serves every stream."""

    def begin(self, stream: int, device: int, target: int) -> None:
        """Meet a stream before it first asks, with the numbers of its device and target."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next window of `stream`, 0 for cloud decoding."""

    def record(self, round: Round) -> None:
        """Take note of a round that ended; for those that learn from outcomes."""

    def forget(self, stream: int) -> None:
        """Drop what is kept for a stream that ended."""
