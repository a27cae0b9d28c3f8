"""Windows on their way to the targets, in the order of their arrival; those of one ms in the order of their streams.

They make no events: a target takes in what has arrived when its turn comes, and only an idle one is woken.
"""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import INFINITY, at, part
from dsd_gym.vector.events import earlier, push_turn
from dsd_gym.vector.layout import PASS_START, QUEUES, WINDOWS, Cell, Records
from dsd_gym.vector.queues import append_window


@part
def send_window(cell: Cell, number: int, arrival_ms: float) -> None:
    """Let a request's window arrive at its target."""
    put_in_order(cell.state, cell.flights, arrival_ms, number)
    place = cell.requests[at(number)].target
    if cell.targets[at(place)].idle:
        wake_at(cell, place, arrival_ms)


@part
def put_in_order(state: Any, flights: Records, arrival_ms: float, number: int) -> None:
    """Put a window behind all that arrive earlier."""
    if state.last_flight == len(flights):
        for place in range(state.first_flight, state.last_flight):
            flights[at(place - state.first_flight)] = flights[at(place)]
        state.first_flight, state.last_flight = 0, state.last_flight - state.first_flight
    place = state.last_flight
    while place > state.first_flight:
        before = flights[at(place - 1)]
        if not earlier(arrival_ms, number, before.at_ms, before.tag):
            break
        flights[at(place)].at_ms, flights[at(place)].tag = before.at_ms, before.tag
        place -= 1
    flights[at(place)].at_ms, flights[at(place)].tag = arrival_ms, number
    state.last_flight += 1


@part
def land(cell: Cell) -> None:
    """Queue the windows that have arrived."""
    state = cell.state
    while state.first_flight < state.last_flight:
        flight = cell.flights[at(state.first_flight)]
        if flight.at_ms > state.now_ms:
            return
        queue = cell.queues[at(cell.requests[at(flight.tag)].target * QUEUES + WINDOWS)]
        append_window(queue, cell.requests, flight.tag, flight.at_ms)
        state.first_flight += 1
    state.first_flight = state.last_flight = 0


@part
def wake_at(cell: Cell, place: int, at_ms: float) -> None:
    """Let an idle target begin then, after all else that happens at that ms, if it does not begin before."""
    target = cell.targets[at(place)]
    if at_ms < target.wakes_ms:
        target.wakes_ms = at_ms
        push_turn(cell.state, cell.events, at_ms, PASS_START, place)


@part
def be_idle(cell: Cell, place: int) -> None:
    """Let a target do nothing until something arrives."""
    state, target = cell.state, cell.targets[at(place)]
    target.idle, target.wakes_ms = 1, INFINITY
    for flight in range(state.first_flight, state.last_flight):
        if cell.requests[at(cell.flights[at(flight)].tag)].target == place:
            wake_at(cell, place, cell.flights[at(flight)].at_ms)
            return
