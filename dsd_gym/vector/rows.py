"""The arrays of a fleet, and how a run of a scenario is put into a row of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dsd_gym import luck
from dsd_gym.config import ConfigError
from dsd_gym.laws import device_order
from dsd_gym.vector.drawing import chain_messages, device_numbers, write_machines, write_requests
from dsd_gym.vector.engine import NO_EVENT_ROOM, NO_LOG_ROOM, NO_MESSAGE_ROOM, NO_REQUEST_ROOM, OVER, open_doors
from dsd_gym.vector.events import MOST_ENTRIES
from dsd_gym.vector.layout import (
    DEVICE,
    DEVICE_CLASS,
    EVENT,
    MESSAGE_RECORD,
    NONE,
    QUEUE,
    QUEUES,
    REGIME,
    REQUEST,
    ROUND,
    STATE,
    STREAM,
    TARGET,
    Log,
    World,
)
from dsd_gym.vector.loading import Deployment
from dsd_gym.vector.tapes import write_tapes

Array = NDArray[Any]
_FIRST_SIZES = {
    "requests": 64, "devices": 8, "classes": 1, "regimes": 1, "targets": 1, "messages": 64, "events": 64,
    "positions": 1 << 14,
}  # fmt: skip
_MANY, _HUGE_PAGE, _ODD = 1 << 18, 1 << 21, 9 * 64
"""Bytes: arrays from the first on are laid in pages of the second's size; by the third, rows are longer than a power of
two, since rows such a power apart share a few places of a cache."""
_BLANK_REQUEST = np.zeros(1, REQUEST)
for _name in ("first_message", "next", "previous"):
    _BLANK_REQUEST[_name] = NONE
for _name in ("first_token_ms", "finish_ms"):
    _BLANK_REQUEST[_name] = np.nan


class Run:
    """What Python keeps of a row: where its requests come from."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment, self.seed = deployment, seed
        self.devices = device_order(device_numbers(np.uint64(seed), len(deployment.devices)))
        self.positions = 0
        """Of the tapes drawn so far."""


class Rows:
    """`count` rows of all arrays, each a deployment of its own, that grow as they must."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reference_ms = np.ones(count)
        self._standing = np.full(count, OVER)
        self._runs: list[Run | None] = [None] * count
        sizes = _FIRST_SIZES
        self._world = World(
            _zeros(count, STATE),
            _zeros((count, sizes["requests"]), REQUEST),
            _zeros((count, sizes["devices"]), DEVICE),
            _zeros((count, sizes["classes"]), DEVICE_CLASS),
            _zeros((count, sizes["regimes"]), REGIME),
            _zeros((count, sizes["targets"]), TARGET),
            _zeros((count, sizes["targets"] * QUEUES), QUEUE),
            _zeros((count, sizes["messages"]), MESSAGE_RECORD),
            _zeros((count, sizes["events"]), EVENT),
            _zeros((count, sizes["events"]), EVENT),
            _zeros((count, sizes["positions"]), np.bool_),
            _zeros((count, sizes["positions"]), np.float64),
        )
        self._world.state["asking"], self._world.state["stopped"] = NONE, 1
        self._log = new_log(4 * count + 64)

    def load(self, place: int, deployment: Deployment, seed: int) -> None:
        """Put a fresh run of a scenario at `place`, at time 0."""
        run = self._runs[place] = Run(deployment, seed)
        self.reference_ms[place] = deployment.reference_ms
        machines = (deployment.devices, deployment.classes, deployment.regimes, deployment.targets)
        for name, rows in zip(("devices", "classes", "regimes", "targets"), machines, strict=True):
            self._reserve(name, len(rows))
        self._reserve("queues", QUEUES * len(deployment.targets))
        jitter = np.uint64(luck.trunk(seed, luck.JITTER))
        write_machines(tuple(self._world), machines, deployment.state, place, np.uint64(seed), jitter)
        self._add_requests(place, run)
        self._open_doors(place, run)
        self._standing[place] = OVER if self._world.state[place]["stopped"] else 0

    def _open_doors(self, place: int, run: Run) -> None:
        """Schedule the end, and the first request of the open loop or of each user."""
        scenario, users = run.deployment.scenario, run.deployment.users
        self._reserve("events", users + 8)
        world, end_ms = self._world, scenario.horizon_ms + scenario.drain_ms
        open_doors(world.state, world.events, world.requests, place, end_ms)

    def _add_requests(self, place: int, run: Run) -> None:
        """Draw the requests, or a closed loop's next."""
        state, deployment = self._world.state[place], run.deployment
        first, start = int(state["arrivals"]), run.positions
        drawn = deployment.draw(run.seed, first)
        lengths = drawn.output_tokens + (deployment.scenario.max_window + 1)
        after, run.positions = first + len(lengths), start + int(lengths.sum())
        self._reserve("requests", after)
        self._reserve("positions", run.positions)
        world, tape = self._world, slice(start, run.positions)
        owners = deployment.users or len(run.devices)
        own = world.requests[place]
        write_requests(own, first, _BLANK_REQUEST, drawn, lengths, run.devices, owners, start)
        tapes = world.accepted[place, tape], world.confidence[place, tape]
        write_tapes(deployment.process, run.seed, drawn.first_stream, lengths, *tapes)
        state["arrivals"] = after
        if not first:
            state["first_stream"] = drawn.first_stream

    # --- making room --------------------------------------------------------------------------------------------

    def _make_room(self, places: NDArray[np.int64]) -> None:
        """Let what is too small grow, so that the deployments can go on."""
        for place in places.tolist():
            if self._standing[place] == NO_REQUEST_ROOM and (run := self._runs[place]):
                self._add_requests(place, run)
        short = set(self._standing[places].tolist())
        if NO_EVENT_ROOM in short:
            self._reserve("events", self._world.events.shape[1] + 1)
        if NO_MESSAGE_ROOM in short:
            before = self._world.messages.shape[1]
            self._reserve("messages", before + 1)
            for place in range(self.count):
                chain_messages(self._world.state, self._world.messages, place, before)
        if NO_LOG_ROOM in short:
            self._log = new_log(2 * len(self._log.rounds), self._log)

    def _reserve(self, name: str, needed: int) -> None:
        """Let every deployment's row of an array be as long as is needed."""
        names = {"positions": ("accepted", "confidence"), "events": ("events", "flights")}.get(name, (name,))
        have = getattr(self._world, names[0]).shape[1]
        if needed > have:
            if needed > MOST_ENTRIES and name != "positions":
                raise ConfigError(f"a run needs {needed} {name}; the compiled simulator takes {MOST_ENTRIES} at most")
            size = max(needed, 2 * have) + _ODD // getattr(self._world, names[0]).itemsize
            longer: dict[str, Any] = {n: _longer(getattr(self._world, n), size) for n in names}
            self._world = self._world._replace(**longer)


def new_log(size: int, old: Log | None = None) -> Log:
    """Return a log with room for `size` entries of each kind, which begins as the old one."""
    log = Log(np.zeros(size, ROUND), np.zeros(size, STREAM), np.zeros(size, STREAM), np.zeros(3, np.int64))
    if old is not None:
        for new, kept in zip(log, old, strict=True):
            new[: len(kept)] = kept
    return log


def _zeros(shape: int | tuple[int, int], kind: DTypeLike) -> Array:
    """Return zeros, in huge pages if they are many and the system has such: numpy asks for them from 4 MB on.

    Each deployment has rows in all arrays: in pages of 4 kB they are more than a processor remembers the places of.
    """
    dtype = np.dtype(kind)
    size = int(np.prod(shape)) * dtype.itemsize
    if size < _MANY:
        return np.zeros(shape, dtype)
    memory = np.zeros(size + 2 * _HUGE_PAGE, np.uint8)
    first = -memory.ctypes.data % _HUGE_PAGE
    return memory[first : first + size].view(dtype).reshape(shape)


def _longer(rows: Array, size: int) -> Array:
    grown = _zeros((len(rows), size), rows.dtype)
    grown[:, : rows.shape[1]] = rows
    return grown
