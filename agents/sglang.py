"""SGLang's adaptive rule: a running mean of accepted drafts moves the window up and down a short ladder."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round

WARM_UP_BATCHES = 10
BATCHES_BETWEEN_STEPS = 5


class Ladder(NamedTuple):
    """Windows that may be used from a batch size on, and how far the way down is shifted."""

    first_batch: int
    windows: tuple[int, ...]
    down_hysteresis: float = 0.0


LADDERS = (
    Ladder(1, (1, 3, 5, 7), -0.25),
    Ladder(8, (0, 1, 3)),
    Ladder(32, (0, 1)),
    Ladder(64, (0,)),
)
"""What SGLang 0.5.23 ships (python/sglang/srt/speculative/adaptive_spec_params.py)."""


class Slot:
    """One ladder at one target: where it stands, the mean accepted drafts, and the batches it has seen."""

    def __init__(self, windows: tuple[int, ...], first_window: int, weight: float, hysteresis: tuple[float, float]):
        self._windows, self._weight = windows, weight
        self._down, self._up = hysteresis
        self.window = first_window if first_window in windows else windows[len(windows) // 2]
        self.mean_accepted = float(self.window - 1)
        self._batches = 0
        self._fraction = 0.0
        self._accepted = self._tested = 0

    def verified(self, round: Round) -> None:
        """Take in one request's part of a batch; whenever the parts make a whole one, the batch is entered.

        A server sees a batch at once. Here each of its requests tells of itself alone, and that it rode with b
        others and itself: it is 1/b of a batch. A chunk of cloud decoding rode in a pass for each of its tokens.
        """
        passes = max(round.cloud_tokens, 1) if round.drafted == 0 else 1
        self._fraction += passes / max(round.batch_size, 1)
        if round.drafted:
            self._accepted, self._tested = self._accepted + round.accepted, self._tested + 1
        while self._fraction > 1.0 - 1e-9:
            self._fraction -= 1.0
            self.batch(self._accepted / self._tested if self._tested else None)
            self._accepted = self._tested = 0

    def batch(self, accepted: float | None) -> None:
        """Enter a batch with its mean of accepted drafts (None where nothing was drafted); perhaps step."""
        if self.window > 0 and accepted is not None:
            self.mean_accepted += self._weight * (accepted - self.mean_accepted)
        self._batches += 1
        after = self._batches - WARM_UP_BATCHES
        if after > 0 and after % BATCHES_BETWEEN_STEPS == 0:
            self.window = self._stepped()

    def _stepped(self) -> int:
        """Return the next window: from 0 the smallest positive one, always; else down, and if not down then up."""
        at = start = self._windows.index(self.window)
        if self.window == 0:
            probe = self._windows[min(1, len(self._windows) - 1)]
            if probe > 0 and self.mean_accepted < 0.0:  # never drafted here
                self.mean_accepted = probe - 1.0
            return probe
        while at > 0 and self.mean_accepted <= max(self._windows[at - 1] - 0.5, 0.5) + self._down:
            at -= 1
        if at == start:
            while at < len(self._windows) - 1 and self.mean_accepted > self._windows[at] - 0.5 + self._up:
                at += 1
        return self._windows[at]


class SGLang(Controller):
    """SGLang 0.5.23's adaptive speculation: a ladder of windows for each range of batch sizes.

    Every fifth batch after ten: down while the mean of accepted drafts is at most (next lower window) - 0.5 (0.5
    where that is 0), else up while it is above window - 0.5. Window 0 is cloud decoding. The server keeps this state,
    so it is kept by target, and the reported batch size picks the ladder.
    SGLang lets its users configure all constants; `batch_scale` multiplies the ladders' batch sizes. The defaults are
    chosen by `python -m agents.tune sglang`; `sglang:published` has what SGLang ships: 0 and 1 for the last two.
    """

    def __init__(
        self,
        max_window: int,
        first_window: int = 3,
        weight: float = 0.2,
        up_hysteresis: float = -1.0,
        batch_scale: float = 0.25,
    ) -> None:
        self._max_window, self._first_window = max_window, min(int(first_window), max_window)
        self._weight, self._up = weight, up_hysteresis
        self._first_batches = [ladder.first_batch * batch_scale for ladder in LADDERS]
        self._slots: dict[int, list[Slot]] = {}
        self._targets: dict[int, int] = {}

    def begin(self, stream: int, device: int, target: int) -> None:
        """Note which server's state the stream shares."""
        self._targets[stream] = target

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window at which the ladder for the reported batch size stands."""
        return Decision(self._slot(stream, observation.batch_size).window)

    def record(self, round: Round) -> None:
        """Let the target's ladder for that batch size know how the drafts fared."""
        self._slot(round.stream, round.batch_size).verified(round)

    def forget(self, stream: int) -> None:
        """Drop the stream's target, and keep the target's state."""
        self._targets.pop(stream, None)

    def _slot(self, stream: int, batch_size: int) -> Slot:
        target = self._targets.get(stream, 0)
        slots = self._slots.get(target)
        if slots is None:
            slots = self._slots[target] = [self._new_slot(ladder) for ladder in LADDERS]
        return slots[max(bisect_right(self._first_batches, batch_size) - 1, 0)]

    def _new_slot(self, ladder: Ladder) -> Slot:
        windows = tuple(sorted({min(window, self._max_window) for window in ladder.windows}))
        return Slot(windows, self._first_window, self._weight, (ladder.down_hysteresis, self._up))
