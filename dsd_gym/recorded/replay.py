"""Replay a recording: every request takes the luck of a recorded one, and a hazard fills in what nobody tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from dsd_gym import luck
from dsd_gym.acceptance import Tape
from dsd_gym.config import ConfigError
from dsd_gym.recorded.hazard import Hazard, fit_hazard
from dsd_gym.recorded.recording import RecordedRequest, read_recording

T = TypeVar("T")


@dataclass(frozen=True)
class RecordedAcceptance:
    """An acceptance process that replays recorded requests.

    Requests meet the recorded ones in a random order, each of them once before any comes again. Tested positions come
    out as they did. Untested ones, and those beyond a recording's end, are drawn with the hazard's probability from
    luck that is looked up by position, so that no decision can change it. A confidence that was not recorded is drawn
    from those recorded with the same outcome.
    """

    requests: tuple[RecordedRequest, ...]
    hazard: Hazard

    @cached_property
    def mean_acceptance(self) -> float:
        """The share of positions accepted, tested or not: of all recorded requests once, with the luck of seed 0."""
        flags = [flag for i, one in enumerate(self.requests) for flag in self._flags(one, 0, i, len(one.accepted))[1:]]
        return sum(flags) / len(flags)

    def tape(self, seed: int, request: int, length: int) -> Tape:
        """Return the tape of `length` positions of `request`; a longer one begins with the shorter one."""
        epoch, place = divmod(request, len(self.requests))
        recorded = self.requests[_shuffled(seed, epoch, len(self.requests))[place]]
        accepted = self._flags(recorded, seed, request, length)
        picks = luck.uniforms(seed, luck.CONFIDENCE, request, 0, length).tolist()
        known = _padded(recorded.confidence, length)
        found = zip(known, accepted, picks, strict=True)
        return Tape(accepted, [self._drawn(flag, pick) if value is None else value for value, flag, pick in found])

    def _flags(self, recorded: RecordedRequest, seed: int, request: int, length: int) -> list[bool]:
        own, chances = self.hazard.request(recorded), luck.uniforms(seed, luck.ACCEPT, request, 0, length).tolist()
        seen = zip(_padded(recorded.accepted, length), _padded(recorded.confidence, length), chances, strict=True)
        accepted: list[bool] = []
        run = 0
        for flag, confidence, chance in seen:
            if flag is None:
                flag = chance < self.hazard.probability(own, run, confidence)
            accepted.append(flag)
            run = run + 1 if flag else 0
        return accepted

    def _drawn(self, accepted: bool, pick: float) -> float:
        """Return one of the confidences recorded with this outcome."""
        pool = self._confidences[accepted]
        return pool[int(pick * len(pool))]

    @cached_property
    def _confidences(self) -> tuple[list[float], list[float]]:
        """Recorded confidences of rejected and of accepted guesses; where there are none, one that tells nothing."""
        pools: tuple[list[float], list[float]] = ([], [])
        for request in self.requests:
            for flag, confidence in zip(request.accepted, request.confidence, strict=False):
                if flag is not None and confidence is not None:
                    pools[flag].append(confidence)
        either = pools[0] + pools[1] or [self.mean_acceptance]
        return pools[0] or either, pools[1] or either


def _padded(values: Sequence[T | None], length: int) -> list[T | None]:
    return [*values[:length], *[None] * (length - len(values))]


@lru_cache(maxsize=64)
def _shuffled(seed: int, epoch: int, count: int) -> list[int]:
    """Return 0..count-1 in the random order of one epoch."""
    order: list[int] = np.argsort(luck.uniforms(seed, luck.RECORDING, epoch, 0, count)).tolist()
    return order


def recorded_acceptance(path: str) -> RecordedAcceptance:
    """Return the replay of a recording; ConfigError names the file, and the line, of what cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{path}: no such recording (acceptance.file)")
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, changed_ns: int) -> RecordedAcceptance:
    """Return the replay of a file, read again when it has changed."""
    requests = read_recording(file)
    return RecordedAcceptance(tuple(requests), fit_hazard(requests))
