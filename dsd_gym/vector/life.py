"""A request's life, told as in `dsd_gym.simulator`, but in stages: each function goes on until the next wait."""

from __future__ import annotations

from dsd_gym.vector.arrivals import leave
from dsd_gym.vector.compiled import at, mean_confidence, part, stopped_window
from dsd_gym.vector.events import push
from dsd_gym.vector.flights import send_window
from dsd_gym.vector.layout import (
    ASKING,
    AWAY,
    CHUNK,
    DECODE,
    FINISHED,
    FIRST_TOKEN,
    GUESSED,
    GUESSING,
    NONE,
    RETURNING,
    STOP,
    Cell,
    Log,
)
from dsd_gym.vector.received import end_round, received, team_ms, tested
from dsd_gym.vector.way import class_of, compute, way


@part
def go_on(cell: Cell, log: Log, deployment: int, number: int) -> None:
    """End, or let the draft make its first guess, unless it has tokens to read before it could, and ask."""
    state, request = cell.state, cell.requests[at(number)]
    if request.committed >= request.output_tokens:
        leave(cell, log, deployment, number, FINISHED)
        return
    device, now_ms = cell.devices[at(request.device)], state.now_ms
    if request.cloud_mode or request.draft_ready_ms > now_ms:
        ask(cell, number)
        return
    guessed_ms = now_ms
    if request.guessed == 0:
        request.guessed = 1
        guessed_ms = compute(device, now_ms, class_of(cell, device).draft_ms)
    request.stage = GUESSING
    push(state, cell.events, now_ms + (guessed_ms - now_ms), GUESSED, number)


@part
def ask(cell: Cell, number: int) -> None:
    """Stand still until somebody decides."""
    cell.requests[at(number)].decided_ms = cell.state.now_ms
    cell.state.asking = number


@part
def decided(cell: Cell, number: int) -> int:
    """Do what was decided: speculate, or let the cloud decode; return who reads the inbox then, if anyone."""
    state, request = cell.state, cell.requests[at(number)]
    request.decoded, request.decoded_externality_ms, request.decoded_bytes = 0, 0.0, 0.0
    if request.window == 0:
        decode_in_cloud(cell, number)
        return number
    if request.cloud_mode:
        request.up_bytes = state.header_bytes
        request.up_ms, transmit_ms = way(cell, request.device, state.now_ms, request.up_bytes, True)
        push(state, cell.events, state.now_ms + (request.up_ms + transmit_ms), STOP, number)
        request.stage = RETURNING
        return number
    request.up_bytes = 0.0
    draft(cell, number)
    return NONE


@part
def draft(cell: Cell, number: int) -> None:
    """Draft a window and send it."""
    state, request = cell.state, cell.requests[at(number)]
    device, now_ms = cell.devices[at(request.device)], state.now_ms
    first = request.tape + request.committed
    request.drafted = request.window
    if request.threshold >= 0.0:
        request.drafted = stopped_window(cell.confidence[first : first + request.window], request.threshold)
    request.mean_confidence = mean_confidence(cell.confidence, first, request.drafted)
    read_on(cell, number, first)
    missing, drafted_ms = request.drafted - request.guessed, now_ms
    if missing > 0:
        drafted_ms = compute(device, now_ms, missing * class_of(cell, device).draft_ms)
    up_bytes = state.header_bytes + state.draft_token_bytes * request.drafted
    request.up_ms, transmit_ms = way(cell, request.device, drafted_ms, up_bytes, True)
    request.up_bytes = up_bytes + request.up_bytes
    send_window(cell, number, now_ms + (drafted_ms - now_ms + request.up_ms + transmit_ms))
    request.stage = AWAY


@part
def read_on(cell: Cell, number: int, first: int) -> None:
    """Read from the tape, while it is at hand, how many drafts will agree, and the draft's next first guess."""
    request, agreed = cell.requests[at(number)], 0
    while agreed < request.drafted and cell.accepted[at(first + agreed)]:
        agreed += 1
    request.agreed = agreed
    request.guess_confidence = cell.confidence[first + min(agreed + 1, request.output_tokens - request.committed)]


@part
def decode_in_cloud(cell: Cell, number: int) -> None:
    """Wait for one chunk of the target's own decoding, which runs on while the controller is asked."""
    state, request = cell.state, cell.requests[at(number)]
    request.up_bytes = 0.0 if request.cloud_mode else state.header_bytes
    request.up_ms, transmit_ms = way(cell, request.device, state.now_ms, request.up_bytes, True)
    if request.cloud_mode == 0:
        request.cloud_mode, request.unread, request.guessed = 1, 0, 0
        push(state, cell.events, state.now_ms + (request.up_ms + transmit_ms), DECODE, number)
    request.stage = CHUNK


@part
def read_inbox(cell: Cell, log: Log, deployment: int, number: int) -> None:
    """Take in what has arrived, in the order it was sent, while the request waits for it."""
    state, request = cell.state, cell.requests[at(number)]
    while request.first_message != NONE and cell.messages[at(request.first_message)].arrived:
        stage = request.stage
        if stage != FIRST_TOKEN and stage != AWAY and stage != CHUNK and stage != RETURNING:
            return
        place = request.first_message
        message = cell.messages[at(place)]
        request.first_message = message.next
        message.next = state.free_message
        state.free_message = place
        state.free_messages += 1
        if stage == RETURNING and not message.final:
            received(cell, number, place, True)
            continue
        request.stage = ASKING
        take_in(cell, log, deployment, number, stage, place)


@part
def take_in(cell: Cell, log: Log, deployment: int, number: int, stage: int, place: int) -> None:
    """Take in the message that ends a wait."""
    state, request, message = cell.state, cell.requests[at(number)], cell.messages[at(place)]
    if stage == AWAY:
        tested(cell, number, message.accepted)
    elif stage == CHUNK:
        request.unread += message.tokens
        request.has_last_confidence, request.last_mean_confidence = 0, 0.0
    received(cell, number, place, stage in (CHUNK, RETURNING))
    if stage == FIRST_TOKEN:
        request.first_token_ms = request.round_start_ms = state.now_ms
        request.team_start_ms = team_ms(state)
        request.guess_confidence = cell.confidence[at(request.tape + request.committed)]
    elif stage == AWAY:
        end_round(cell, log, deployment, number, place)
    elif stage == CHUNK:
        end_round(cell, log, deployment, number, NONE)
    else:
        request.cloud_mode = 0
        device = cell.devices[at(request.device)]
        unread = request.unread + request.decoded
        request.draft_ready_ms = compute(device, state.now_ms, unread * class_of(cell, device).prefill_ms)
        if request.committed < request.output_tokens:
            draft(cell, number)
            return
        end_round(cell, log, deployment, number, NONE)
    go_on(cell, log, deployment, number)
