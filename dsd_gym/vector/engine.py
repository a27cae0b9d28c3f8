"""The event loop: each deployment goes on to its next question, or to its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym.vector.arrivals import arrive, count_waiting, prompt_arrived, think
from dsd_gym.vector.compiled import at, compiled, merged, part
from dsd_gym.vector.events import close, kind_of, pop, push, push_end, push_turn, who_of
from dsd_gym.vector.flights import land
from dsd_gym.vector.foresight import foresee
from dsd_gym.vector.layout import (
    ANSWERED,
    ARRIVAL,
    DECODE,
    END,
    GUESSED,
    MESSAGE,
    NONE,
    PASS_END,
    PASS_START,
    PROMPT,
    QUEUES,
    RIDING,
    STOP,
    Cell,
    Log,
    Records,
    Told,
    World,
)
from dsd_gym.vector.life import ask, decided, read_inbox
from dsd_gym.vector.outcomes import deliver
from dsd_gym.vector.received import observe
from dsd_gym.vector.target import begin_pass, decode

ASKED, OVER, NO_EVENT_ROOM, NO_MESSAGE_ROOM, NO_REQUEST_ROOM, NO_LOG_ROOM = range(6)
"""How a deployment stands when it stops: a question, the end, or an array that must grow before it can go on."""

_MOST_PUSHED = 4
"""Events that one event schedules at most, the messages of a pass aside."""


@compiled
def advance(worlds: tuple[Any, ...], logs: tuple[Any, ...], telling: tuple[Any, ...], chosen: NDArray[np.int64]) -> int:
    """Answer the question of each `chosen` deployment, if it has one, and go on to the next; tell of it.

    A `World`, a `Log` and a `Told` come as plain tuples: numba takes 5 us longer to look into named ones. Return how
    many could not go on: one for which an array is too small stops before the event that would not fit, to be called
    again. If a window is out of its deployment's range nothing goes on, and -1 - deployment is returned.
    """
    world, log, told = World(*worlds), Log(*logs), Told(*telling)
    for deployment in chosen:
        state = world.state[at(deployment)]
        if state.asking != NONE and not 0 <= told.windows[at(deployment)] <= state.max_window:
            return -1 - int(deployment)
    stuck = 0
    for deployment in chosen:
        cell = Cell(
            world.state[at(deployment)],
            world.requests[at(deployment)],
            world.devices[at(deployment)],
            world.classes[at(deployment)],
            world.regimes[at(deployment)],
            world.targets[at(deployment)],
            world.queues[at(deployment)],
            world.messages[at(deployment)],
            world.events[at(deployment)],
            world.flights[at(deployment)],
            world.accepted[at(deployment)],
            world.confidence[at(deployment)],
        )
        state = cell.state
        if entries(log) + 2 > len(log.rounds):  # one for the answer's round, one for the first event's
            told.standing[at(deployment)] = NO_LOG_ROOM
            stuck += 1
            continue
        answered = NONE
        if state.asking != NONE:
            answered = answer(cell, told.windows[at(deployment)], told.thresholds[at(deployment)])
        standing = run(cell, log, deployment, answered)
        told.standing[at(deployment)] = standing
        if standing != ASKED and standing != OVER:
            stuck += 1
            continue
        count_waiting(state)
        if standing == ASKED:
            observe(cell, state.asking, told.seen[at(deployment)])
            if told.ahead.shape[1]:
                foresee(cell, state.asking, told.ahead[at(deployment)])
        told.waited_ms[at(deployment)], told.now_ms[at(deployment)] = state.waited_ms, state.now_ms
        told.stream[at(deployment)], told.live[at(deployment)] = state.asking + state.first_stream, state.live
        state.taken_ms += state.waited_ms
        state.waited_ms = 0.0
    return stuck


@part
def entries(log: Log) -> int:
    """Return how many entries the longest part of the log has."""
    return max(log.counts[0], log.counts[1], log.counts[2])  # type: ignore[no-any-return]


@compiled
def open_doors(states: Records, events: Records, requests: Records, place: int, end_ms: float) -> None:
    """Schedule the end of the fresh run at `place`, and the first request of its open loop or of each user."""
    state, own = states[place], events[at(place)]
    push_end(state, own, end_ms)
    state.sources = max(1, state.users)
    for user in range(state.users):
        think(state, own, user)
    if state.users == 0 and state.arrivals:
        push(state, own, requests[place, 0].arrival_ms - 0.0, ARRIVAL, 0)
    elif state.users == 0:
        state.sources, state.stopped = 0, 1


@part
def answer(cell: Cell, window: int, threshold: float) -> int:
    """Answer the question; return who asked it, unless there is more to happen at this ms before it is answered."""
    state, number = cell.state, cell.state.asking
    cell.requests[at(number)].window, cell.requests[at(number)].threshold = window, threshold
    state.asking = NONE
    close(state, cell.events)
    if state.events and cell.events[0].at_ms == state.now_ms:
        push(state, cell.events, state.now_ms, ANSWERED, number)
        return NONE
    return number  # type: ignore[no-any-return]


@merged
def run(cell: Cell, log: Log, deployment: int, answered: int) -> int:
    """Let the answered request go on, and events happen, until somebody asks."""
    state = cell.state
    kind, who, reader = ANSWERED, answered, NONE
    while state.asking == NONE:
        if who == NONE:
            if state.stopped:
                return OVER
            close(state, cell.events)
            event = cell.events[0]
            if state.woken != NONE:
                kind, who, state.woken = PASS_START, state.woken, NONE
                if event.at_ms == state.now_ms:  # a pass begins after all else that happens at its ms
                    push_turn(state, cell.events, state.now_ms, kind, who)
                    who = NONE
                    continue
            else:
                kind, who = kind_of(event.tag), who_of(event.tag)
                lacking = room(cell, log, kind, who)
                if lacking != ASKED:
                    return lacking
                state.now_ms = event.at_ms
                pop(state)
        if kind == GUESSED:
            ask(cell, who)
        elif kind == MESSAGE:
            cell.messages[at(who)].arrived = 1
            reader = cell.messages[at(who)].request
        elif PASS_START <= kind <= PASS_END:
            take_turn(cell, who, kind == PASS_END)
        elif kind == ANSWERED:
            reader = decided(cell, who)
        elif kind == DECODE:
            decode(cell, who)
        elif kind == STOP:
            cell.requests[at(who)].stopping = 1
        elif kind == PROMPT:
            prompt_arrived(cell, log, deployment, who)
        elif kind == ARRIVAL:
            arrive(cell, log, deployment, who)
        elif kind == END:
            cell.state.stopped = 1
        if reader != NONE:
            read_inbox(cell, log, deployment, reader)
        who = reader = NONE
    return ASKED


@part
def room(cell: Cell, log: Log, kind: int, who: int) -> int:
    """Return which array is too small for what the next event, of `kind` to `who`, may bring; ASKED if none is."""
    state, pushed = cell.state, _MOST_PUSHED
    if kind <= MESSAGE:
        if entries(log) + 1 > len(log.rounds):
            return NO_LOG_ROOM
        if kind == ARRIVAL and who >= state.arrivals:
            return NO_REQUEST_ROOM
    elif kind == PASS_END:
        target = cell.targets[at(who)]
        sent = cell.queues[at(who * QUEUES + RIDING)].count + target.decoding + target.prefills
        if sent > state.free_messages:
            return NO_MESSAGE_ROOM
        pushed += sent
    flights = state.last_flight - state.first_flight + 1
    if state.events + pushed > len(cell.events) or flights > len(cell.flights):
        return NO_EVENT_ROOM
    return ASKED


@part
def take_turn(cell: Cell, place: int, pass_ends: bool) -> None:
    """Let a target begin its next pass: at the end of one, or when it is idle and not already at work again."""
    if pass_ends or cell.targets[at(place)].idle:
        land(cell)
        if pass_ends:
            end_pass(cell, place)
        begin_pass(cell, place)


@part
def end_pass(cell: Cell, place: int) -> None:
    """Add the pass to the target's work and send what it brought."""
    state, target = cell.state, cell.targets[at(place)]
    if target.start_ms < state.horizon_ms and state.now_ms > state.warm_up_ms:
        target.busy_ms += min(state.now_ms, state.horizon_ms) - max(target.start_ms, state.warm_up_ms)
        target.iterations += 1
        target.pass_tokens += target.tokens
    deliver(cell, place)
