"""How far away the target may be before a controller leaves decoding to it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.window_map import BATCH_SIZES, RTT_MS, observation_at, settled_window

ACCEPTANCES = (0.5, 0.65, 0.8, 0.95)
DRAFT_MS = (2.0, 5.0, 10.0, 25.0)
USUAL_ACCEPTANCE, USUAL_DRAFT_MS = 0.65, 5.0

IN_CLOUD: dict[str, Any] = {
    "cloud_mode": True,
    "has_first_guess": False,
    "first_guess_confidence": 0.0,
    "has_last_confidence": False,
    "last_mean_confidence": 0.0,
    "catch_up_ms": 2.0,
}
"""What a request sees otherwise while the cloud decodes it: no guess of its draft, and a few tokens for it to read."""


class Crossover(NamedTuple):
    """What is chosen along the round trip, in one place of the maps."""

    batch_size: int
    acceptance: float
    draft_ms: float
    near: int
    """The window at the shortest round trip of the maps, `RTT_MS[0]`."""
    cloud_from_ms: float
    """The round trip from which on the cloud decodes; inf if it never does, 0 if it always does."""
    cloud_mode: bool = False
    """Whether the cloud decodes the request already."""


def crossovers(spec: str, make_controller: MakeController, max_window: int) -> list[Crossover]:
    """Return where a controller turns to the cloud: by acceptance, then by draft speed, at each load of the maps."""
    places = [(acceptance, USUAL_DRAFT_MS, mode) for mode in (False, True) for acceptance in ACCEPTANCES]
    places += [(USUAL_ACCEPTANCE, draft_ms, False) for draft_ms in DRAFT_MS]
    return [
        _crossover(spec, make_controller, max_window, batch_size, *place)
        for place in dict.fromkeys(places)
        for batch_size in BATCH_SIZES
    ]


def _crossover(
    spec: str, make: MakeController, max_window: int, batch_size: int, acceptance: float, draft_ms: float, mode: bool
) -> Crossover:
    controller = make(spec, max_window)
    windows = []
    for rtt_ms in RTT_MS:
        seen = observation_at(rtt_ms, acceptance, batch_size)
        seen = seen._replace(draft_ms_per_token=draft_ms, report_age_ms=rtt_ms / 2.0 + draft_ms)
        windows.append(settled_window(controller, seen._replace(**IN_CLOUD) if mode else seen))
    return Crossover(batch_size, acceptance, draft_ms, windows[0], cloud_from(windows), mode)


def cloud_from(windows: list[int]) -> float:
    """Return the first of `RTT_MS` from which on all `windows` are 0; inf if the last is not, 0 if all are."""
    edge = [place for place, window in enumerate(windows) if window]
    if not edge:
        return 0.0
    return RTT_MS[edge[-1] + 1] if edge[-1] + 1 < len(windows) else math.inf
