"""The cells that a moving device passes through."""

from __future__ import annotations

import math

from dsd_gym import luck
from dsd_gym.network.timeline import Timeline
from dsd_gym.scenario import Handover


class Cells:
    """Cells of exponential lengths of time, each with its own round trip; a gap begins each but the first."""

    def __init__(self, spec: Handover, seed: int, device: int) -> None:
        self._spec, self._seed, self._device = spec, seed, device
        self._timeline = Timeline(self._draw)

    def rtt_factor(self, now_ms: float) -> float:
        """Return what multiplies the round trip at `now_ms`."""
        return self._timeline.at(now_ms)[0]

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave: then, or at the end of the gap, or of the next."""
        while True:
            _, starts_ms, _ = self._timeline.at(at_ms)
            gap_ends_ms = starts_ms + self._spec.gap_ms
            if starts_ms == 0.0 or at_ms >= gap_ends_ms:
                return at_ms
            at_ms = gap_ends_ms

    def _draw(self, index: int, _: float | None) -> tuple[float, float]:
        place = luck.uniform(self._seed, luck.HANDOVER, self._device, 2 * index)
        length = luck.uniform(self._seed, luck.HANDOVER, self._device, 2 * index + 1)
        return self._spec.rtt_spread ** (2.0 * place - 1.0), -self._spec.every_ms * math.log(length)
