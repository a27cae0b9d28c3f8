"""The events to come, a binary heap in SimPy's own order, ties included.

What happens at one ms happens in the order in which it was scheduled, and after it the end of the run, then the passes
that end or begin, target by target (`dsd_gym.messages`).

What happens first leaves a hole at the top, which the next event that is scheduled fills: most events schedule one.
"""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import at, part
from dsd_gym.vector.layout import END, Records

_WHO_BITS, _KIND_BITS, _ORDER_BITS = 22, 4, 36
"""An event's tag, from its lowest bits on: whom it concerns, its kind, its order among those of one ms."""
_LAST = 1 << _ORDER_BITS
"""The order of the run's end; the targets' are above it."""

MOST_ENTRIES = 1 << _WHO_BITS
"""Requests, messages or events that a deployment may have."""


@part
def push(state: Any, events: Records, at_ms: float, kind: int, who: int) -> None:
    """Schedule an event."""
    state.order += 1
    put(state, events, at_ms, state.order, kind, who)


@part
def push_turn(state: Any, events: Records, at_ms: float, kind: int, target: int) -> None:
    """Schedule the turn of a target, after all else at that ms."""
    put(state, events, at_ms, _LAST + 1 + target, kind, target)


@part
def push_end(state: Any, events: Records, at_ms: float) -> None:
    """Schedule the run's end, after all else at that ms but the turns of targets."""
    put(state, events, at_ms, _LAST, END, 0)


@part
def put(state: Any, events: Records, at_ms: float, order: int, kind: int, who: int) -> None:
    """Put an event where it belongs."""
    tag = (((order << _KIND_BITS) | kind) << _WHO_BITS) | who
    if state.hole:
        state.hole = 0
        sink(events, state.events, at_ms, tag)
    else:
        rise(events, state.events, at_ms, tag)
        state.events += 1


@part
def pop(state: Any) -> None:
    """Take out the first event."""
    state.hole = 1


@part
def close(state: Any, events: Records) -> None:
    """Fill the hole, if there is one, so that the first event stands at the top."""
    if state.hole:
        state.hole = 0
        state.events -= 1
        moved = events[at(state.events)]
        sink(events, state.events, moved.at_ms, moved.tag)


@part
def rise(events: Records, place: int, at_ms: float, tag: int) -> None:
    """Put an event in, from the end upwards."""
    while place > 0:
        parent = (place - 1) >> 1
        if earlier(events[at(parent)].at_ms, events[at(parent)].tag, at_ms, tag):
            break
        events[at(place)].at_ms, events[at(place)].tag = events[at(parent)].at_ms, events[at(parent)].tag
        place = parent
    events[at(place)].at_ms, events[at(place)].tag = at_ms, tag


@part
def sink(events: Records, count: int, at_ms: float, tag: int) -> None:
    """Put an event in, from the top of `count` downwards."""
    place, child = 0, 1
    while child < count:
        left, right = events[at(child)], events[at(min(child + 1, count - 1))]
        child += earlier(right.at_ms, right.tag, left.at_ms, left.tag)
        below = events[at(child)]
        if earlier(at_ms, tag, below.at_ms, below.tag):
            break
        events[at(place)].at_ms, events[at(place)].tag = below.at_ms, below.tag
        place, child = child, 2 * child + 1
    events[at(place)].at_ms, events[at(place)].tag = at_ms, tag


@part
def earlier(first_ms: float, first_tag: int, second_ms: float, second_tag: int) -> bool:
    """Return whether one event comes before another; without jumps, which a processor would guess wrong."""
    return (first_ms < second_ms) | ((first_ms <= second_ms) & (first_tag < second_tag))


@part
def kind_of(tag: int) -> int:
    """Return an event's kind."""
    return (tag >> _WHO_BITS) & ((1 << _KIND_BITS) - 1)


@part
def who_of(tag: int) -> int:
    """Return whom an event concerns."""
    return tag & (MOST_ENTRIES - 1)
