"""What a controller is."""

from __future__ import annotations

from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round


class Controller:
    """Decides windows. One object serves every stream; it runs unchanged in the simulator and in the runtime."""

    def begin(self, stream: int, device: int, target: int) -> None:
        """Meet a stream before it first asks; for controllers that keep something by device or target."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next window of `stream`, 0 for cloud decoding."""
        raise TypeError(f"{type(self).__name__} does not decide")

    def record(self, round: Round) -> None:
        """Take note of a round that ended; for controllers that learn from outcomes."""

    def forget(self, stream: int) -> None:
        """Drop what is kept for a stream that ended."""
