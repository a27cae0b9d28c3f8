"""How requests come and go."""

from __future__ import annotations

from typing import Any

import numpy as np

from dsd_gym import luck
from dsd_gym.vector.compiled import at, exponential, part, uniform
from dsd_gym.vector.events import push
from dsd_gym.vector.layout import (
    ARRIVAL,
    FINISHED,
    FIRST_TOKEN,
    LIVE,
    PROMPT,
    REJECTED,
    TRAVELLING,
    Cell,
    Log,
    Records,
)
from dsd_gym.vector.received import team_ms
from dsd_gym.vector.target import admit
from dsd_gym.vector.way import class_of, compute, way

_THINK = luck.THINK


@part
def arrive(cell: Cell, log: Log, deployment: int, number: int) -> None:
    """Begin a request; an open loop's next is on its way then."""
    state = cell.state
    if state.users:
        if state.now_ms >= state.horizon_ms or state.arrived >= state.arrival_limit:
            end_source(state)
            return
        cell.requests[at(number)].arrival_ms = state.now_ms
    state.arrived += 1
    enter(cell, log, deployment, number)
    if not state.users:
        if number + 1 < state.arrivals:
            ahead_ms = cell.requests[at(number + 1)].arrival_ms - state.now_ms
            push(state, cell.events, state.now_ms + ahead_ms, ARRIVAL, number + 1)
        else:
            end_source(state)
    send_prompt(cell, number)


@part
def end_source(state: Any) -> None:
    """Let nothing more come from a user or an open loop."""
    state.sources -= 1
    if state.sources == 0 and state.live == 0:
        state.stopped = 1


@part
def count_waiting(state: Any) -> None:
    """Add the ms since the last change in the number of live requests, once for each of them."""
    state.waited_ms += (state.now_ms - state.counted_ms) * state.live
    state.counted_ms = state.now_ms


@part
def enter(cell: Cell, log: Log, deployment: int, number: int) -> None:
    """Bring a request into the world, at the target with the fewest in flight, and send its prompt up."""
    state, request = cell.state, cell.requests[at(number)]
    count_waiting(state)
    place = 0
    for other in range(1, state.targets):
        if cell.targets[at(other)].live < cell.targets[at(place)].live:
            place = other
    cell.targets[at(place)].live += 1
    request.target, request.status, request.stage = place, LIVE, TRAVELLING
    request.round_start_ms = request.decided_ms = request.arrival_ms
    request.team_start_ms = team_ms(state)
    state.live += 1
    entry = log.begun[at(log.counts[1])]
    log.counts[1] += 1
    entry.deployment, entry.stream = deployment, number + state.first_stream
    entry.device, entry.target = request.device, place


@part
def send_prompt(cell: Cell, number: int) -> None:
    """Send the prompt up, while the draft reads it too."""
    state, request = cell.state, cell.requests[at(number)]
    device, now_ms = cell.devices[at(request.device)], state.now_ms
    request.draft_ready_ms = compute(device, now_ms, request.prompt_tokens * class_of(cell, device).prefill_ms)
    prompt_bytes = state.header_bytes + state.prompt_token_bytes * request.prompt_tokens
    request.up_ms, transmit_ms = way(cell, request.device, now_ms, prompt_bytes, True)
    push(state, cell.events, now_ms + (request.up_ms + transmit_ms), PROMPT, number)


@part
def prompt_arrived(cell: Cell, log: Log, deployment: int, number: int) -> None:
    """Let the target queue the prompt, or end the request."""
    cell.requests[at(number)].stage = FIRST_TOKEN
    if not admit(cell, number):
        leave(cell, log, deployment, number, REJECTED)


@part
def leave(cell: Cell, log: Log, deployment: int, number: int, status: int) -> None:
    """Take a request out of the world."""
    state, request = cell.state, cell.requests[at(number)]
    count_waiting(state)
    state.live -= 1
    request.status = status
    if status == FINISHED:
        request.finish_ms = state.now_ms
    entry = log.ended[at(log.counts[2])]
    log.counts[2] += 1
    entry.deployment, entry.stream = deployment, number + state.first_stream
    entry.device, entry.target = request.device, request.target
    if state.sources == 0 and state.live == 0:
        state.stopped = 1
    if state.users:
        think(state, cell.events, number + state.users)


@part
def think(state: Any, events: Records, number: int) -> None:
    """Let a closed-loop user pause before the request of that number."""
    pause_ms = 0.0
    if state.think_ms:
        pause_ms = exponential(state.think_ms, uniform(state.seed, np.uint64(_THINK), np.uint64(number), np.uint64(0)))
    push(state, events, state.now_ms + pause_ms, ARRIVAL, number)
