"""Many deployments side by side: arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.controller import NO_THRESHOLD
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.vector.engine import NO_EVENT_ROOM, OVER, advance
from dsd_gym.vector.foresight import FORESIGHT
from dsd_gym.vector.layout import FloatArray, Records, Told
from dsd_gym.vector.rows import Rows

Ints = NDArray[np.int64]


class Fleet(Rows):
    """Simulates `count` deployments at once, each of its own scenario and seed, each up to its next question.

    Attributes:
        seen: features of the questions in their own units, float64 of shape (count, features).
        ahead: what no edge could know of them (`foresight.FORESIGHT`), float32, (count, columns); none if not asked.
        waited_ms: ms that passed up to the question, summed over live requests, (count,).
        now_ms: of the question, (count,).
        asking: the streams that ask, (count,).
        live: requests that have arrived and not ended, (count,).
        reference_ms: of each deployment, (count,).
    """

    def __init__(self, count: int, foresight: bool = False) -> None:
        super().__init__(count)
        self.seen = np.zeros((count, len(FEATURE_NAMES)))
        self.ahead = np.zeros((count, len(FORESIGHT) if foresight else 0), np.float32)
        self.waited_ms, self.now_ms = np.zeros(count), np.zeros(count)
        self.asking, self.live = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._told = Told(
            windows=np.zeros(count, np.int64),
            thresholds=np.full(count, NO_THRESHOLD),
            seen=self.seen,
            ahead=self.ahead,
            waited_ms=self.waited_ms,
            stream=self.asking,
            now_ms=self.now_ms,
            live=self.live,
            standing=self._standing,
        )
        self._all = np.arange(count)

    def start(self, places: Ints, after: bool = False) -> None:
        """Let freshly loaded deployments come to their first question; it is told alone, or `after` the rest."""
        if not after:
            self._log.counts[:] = 0
        self._go_on(places)

    def answer(self, windows: Ints, thresholds: FloatArray | None = None) -> None:
        """Answer every question that is pending and go on to the next ones.

        Raises:
            ValueError: a window is longer than its deployment's longest, or negative. None has gone on.
        """
        self._log.counts[:] = 0
        self._told.windows[:] = windows
        if thresholds is not None:
            self._told.thresholds[:] = thresholds
        self._go_on(self._all)

    def _go_on(self, places: Ints) -> None:
        while stuck := advance(tuple(self._world), tuple(self._log), tuple(self._told), places):
            if stuck < 0:
                wrong = -1 - stuck
                longest = self._world.state["max_window"][wrong]
                raise ValueError(f"window {self._told.windows[wrong]} is outside 0..{longest}")
            places = places[self._standing[places] >= NO_EVENT_ROOM]
            self._make_room(places)

    # --- what came of it ----------------------------------------------------------------------------------------

    @property
    def over(self) -> NDArray[np.bool_]:
        """Whether a deployment has come to its end, (count,)."""
        over: NDArray[np.bool_] = self._standing == OVER
        return over

    @property
    def state(self) -> Records:
        """Each deployment's own figures (`layout.STATE`), (count,)."""
        return self._world.state

    @property
    def happened(self) -> tuple[Records, Records, Records]:
        """What has happened since the last answer: `rounds`, `begun` and `ended`."""
        log = self._log
        rounds, begun, ended = log.counts.tolist()
        return log.rounds[:rounds], log.begun[:begun], log.ended[:ended]

    @property
    def rounds(self) -> Records:
        """The rounds that ended since the last answer (`layout.ROUND`), of all deployments."""
        return self.happened[0]

    @property
    def begun(self) -> Records:
        """The requests that arrived since then (`layout.STREAM`)."""
        return self.happened[1]

    @property
    def ended(self) -> Records:
        """The requests that finished or were rejected since then (`layout.STREAM`)."""
        return self.happened[2]

    def requests(self, place: int) -> Records:
        """Return the requests of a deployment drawn so far (`layout.REQUEST`)."""
        return self._world.requests[place, : self._world.state[place]["arrivals"]]

    def targets(self, place: int) -> Records:
        """Return the targets of a deployment (`layout.TARGET`)."""
        return self._world.targets[place, : self._world.state[place]["targets"]]

    def device_classes(self, place: int) -> Ints:
        """Return the edge class of each device of a deployment."""
        classes: Ints = self._world.devices[place]["device_class"]
        return classes
