"""The events to come, a binary heap by (ms, priority, order of scheduling): SimPy's own order, ties included."""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import part
from dsd_gym.vector.layout import Records

_ORDERS = 1 << 56
"""More events than a run has."""


@part
def push(state: Any, events: Records, at_ms: float, priority: int, kind: int, who: int) -> None:
    """Schedule an event."""
    state.order += 1
    order = priority * _ORDERS + state.order
    place = state.events
    state.events += 1
    while place > 0:
        parent = (place - 1) >> 1
        above = events[parent]
        if above.at_ms < at_ms or (above.at_ms == at_ms and above.order < order):
            break
        put(events[place], above.at_ms, above.order, above.kind, above.who)
        place = parent
    put(events[place], at_ms, order, kind, who)


@part
def pop(state: Any, events: Records) -> None:
    """Take out the first event."""
    state.events -= 1
    count = state.events
    moved = events[count]
    at_ms, order, kind, who = moved.at_ms, moved.order, moved.kind, moved.who
    place, child = 0, 1
    while child < count:
        if child + 1 < count:
            left, right = events[child], events[child + 1]
            if right.at_ms < left.at_ms or (right.at_ms == left.at_ms and right.order < left.order):
                child += 1
        below = events[child]
        if at_ms < below.at_ms or (at_ms == below.at_ms and order < below.order):
            break
        put(events[place], below.at_ms, below.order, below.kind, below.who)
        place, child = child, 2 * child + 1
    put(events[place], at_ms, order, kind, who)


@part
def put(event: Any, at_ms: float, order: int, kind: int, who: int) -> None:
    """Write an event, field by field: whole records are copied byte by byte."""
    event.at_ms, event.order, event.kind, event.who = at_ms, order, kind, who
