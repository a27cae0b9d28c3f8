"""A target: who rides in its next pass, and how long it takes. `dsd_gym.target` over records.

First come, first served, chunked prefill, memory for a request's whole life.
"""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import at, iteration_ms, part, prefill_attention_ms
from dsd_gym.vector.events import push_turn
from dsd_gym.vector.flights import be_idle
from dsd_gym.vector.layout import (
    DECODING,
    PASS_END,
    PREFILLING,
    QUEUES,
    RIDING,
    WAITING,
    WINDOWS,
    Cell,
)
from dsd_gym.vector.queues import append, remove


@part
def admit(cell: Cell, number: int) -> bool:
    """Queue a request for prefill; False rejects it: it never fits, or too many wait already."""
    request = cell.requests[at(number)]
    target, waiting = cell.targets[at(request.target)], cell.queues[at(request.target * QUEUES + WAITING)]
    if request.prompt_tokens + request.output_tokens > target.capacity or waiting.count >= target.max_queue:
        target.live -= 1
        return False
    request.queued_ms = cell.state.now_ms
    append(waiting, cell.requests, number)
    wake(cell, request.target)
    return True


@part
def decode(cell: Cell, number: int) -> None:
    """Let the target decode a stream on its own."""
    request = cell.requests[at(number)]
    request.stopping, request.decoded_in_chunk = 0, 0
    append(cell.queues[at(request.target * QUEUES + DECODING)], cell.requests, number)
    wake(cell, request.target)


@part
def wake(cell: Cell, place: int) -> None:
    """Let an idle target begin, after all else that happens at this ms."""
    if cell.targets[at(place)].idle:
        cell.state.woken = place


@part
def begin_pass(cell: Cell, place: int) -> None:
    """Fill the next pass and schedule its end; with nothing to do, be idle."""
    target = cell.targets[at(place)]
    room, budget = target.max_sequences, target.max_batch_tokens
    budget = take_windows(cell, place, room, budget)
    room -= cell.queues[at(place * QUEUES + RIDING)].count
    take_decoding(cell, place, min(room, budget))
    room -= target.decoding
    budget -= target.decoding
    begin_prefills(cell, place)
    take_prefills(cell, place, room, budget)
    if cell.queues[at(place * QUEUES + RIDING)].count + target.decoding + target.prefills == 0:
        be_idle(cell, place)
        return
    target.idle = 0
    target.start_ms = cell.state.now_ms
    measure_pass(cell, place)
    push_turn(cell.state, cell.events, cell.state.now_ms + target.total_ms, PASS_END, place)


@part
def take_windows(cell: Cell, place: int, room: int, budget: int) -> int:
    """Let windows ride up to the first that does not fit; return the tokens left."""
    waiting, riding = cell.queues[at(place * QUEUES + WINDOWS)], cell.queues[at(place * QUEUES + RIDING)]
    taken, number = 0, waiting.first
    while taken < waiting.count and taken < room:
        tokens = cell.requests[at(number)].drafted + 1
        if tokens > budget:
            break
        budget -= tokens
        taken += 1
        number = cell.requests[at(number)].next
    riding.first, riding.count = waiting.first, taken
    waiting.count -= taken
    if waiting.count:
        waiting.first = number
        cell.requests[at(number)].previous = -1
    return budget


@part
def take_decoding(cell: Cell, place: int, room: int) -> None:
    """Choose the streams that decode; where not all do, they take turns."""
    target, queue = cell.targets[at(place)], cell.queues[at(place * QUEUES + DECODING)]
    target.decoding, target.first_decoding = min(queue.count, room), queue.first
    if queue.count > room:
        for _ in range(room):
            number = queue.first
            remove(queue, cell.requests, number)
            append(queue, cell.requests, number)


@part
def begin_prefills(cell: Cell, place: int) -> None:
    """Give memory to requests that wait for it, up to the first for which it does not suffice."""
    target = cell.targets[at(place)]
    waiting, prefilling = cell.queues[at(place * QUEUES + WAITING)], cell.queues[at(place * QUEUES + PREFILLING)]
    while waiting.count:
        number = waiting.first
        needed = cell.requests[at(number)].prompt_tokens + cell.requests[at(number)].output_tokens
        if needed > target.free:
            return
        target.free -= needed
        remove(waiting, cell.requests, number)
        append(prefilling, cell.requests, number)


@part
def take_prefills(cell: Cell, place: int, room: int, budget: int) -> None:
    """Choose the requests whose prompts are read on, and how many tokens of each still fit."""
    target, queue = cell.targets[at(place)], cell.queues[at(place * QUEUES + PREFILLING)]
    if target.chunk_limit:
        budget = min(budget, target.chunk_limit)
    target.prefills, number = 0, queue.first
    while target.prefills < queue.count and budget > 0 and target.prefills < room:
        request = cell.requests[at(number)]
        request.chunk = min(budget, request.prompt_tokens - request.prefilled)
        budget -= request.chunk
        target.prefills += 1
        number = request.next


@part
def measure_pass(cell: Cell, place: int) -> None:
    """Add up the size and length of the pass."""
    target, tokens, context = cell.targets[at(place)], 0, 0
    attention_ms = 0.0
    number = cell.queues[at(place * QUEUES + PREFILLING)].first
    for _ in range(target.prefills):
        request = cell.requests[at(number)]
        tokens += request.chunk
        attention_ms += prefill_attention_ms(
            request.chunk, request.prefilled, target.prefill_token_ms, target.prefill_pair_ms
        )
        number = request.next
    number = target.first_decoding
    for _ in range(target.decoding):
        context += cell.requests[at(number)].prompt_tokens + cell.requests[at(number)].verified
        number = cell.requests[at(number)].next
    tokens += target.decoding
    number = cell.queues[at(place * QUEUES + RIDING)].first
    for _ in range(cell.queues[at(place * QUEUES + RIDING)].count):
        request = cell.requests[at(number)]
        tokens += request.drafted + 1
        context += request.prompt_tokens + request.verified
        number = request.next
    total_ms = target.host_ms + pass_ms(
        target, tokens, target.decoding + cell.queues[at(place * QUEUES + RIDING)].count, context
    )
    if target.prefills:
        total_ms += target.prefill_fixed_ms + attention_ms
    target.tokens, target.total_ms = tokens, total_ms


@part
def pass_ms(target: Any, tokens: int, sequences: int, context_tokens: int) -> float:
    """Return the ms of one forward pass."""
    return iteration_ms(
        tokens,
        sequences,
        context_tokens,
        target.fixed_ms,
        target.token_ms,
        target.weights_ms,
        target.compute_ms,
        target.attention_fixed_ms,
        target.attention_sequence_ms,
        target.attention_context_ms,
    )
