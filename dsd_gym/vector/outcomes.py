"""What comes out of a pass, and is sent to the edges: `dsd_gym.target.outcomes` over records."""

from __future__ import annotations

from dsd_gym.vector.compiled import added_tokens_ms, at, externality_ms, part
from dsd_gym.vector.events import push
from dsd_gym.vector.layout import (
    DECODING,
    MESSAGE,
    NONE,
    PREFILLING,
    QUEUES,
    RIDING,
    WAITING,
    WINDOWS,
    Cell,
)
from dsd_gym.vector.queues import remove
from dsd_gym.vector.way import way


@part
def deliver(cell: Cell, place: int) -> None:
    """Send what the pass that ends now has brought."""
    target, requests = cell.targets[at(place)], cell.requests
    first = place * QUEUES
    riding, decoding, prefilling = (
        cell.queues[at(first + RIDING)],
        cell.queues[at(first + DECODING)],
        cell.queues[at(first + PREFILLING)],
    )
    others = riding.count + cell.queues[at(first + WINDOWS)].count + decoding.count
    others += cell.queues[at(first + WAITING)].count + prefilling.count - 1
    marginal_ms = added_ms(cell, place, target.tokens + 1, 1)
    batch_size = riding.count + target.decoding + target.prefills
    number = prefilling.first
    for _ in range(target.prefills):
        after = requests[at(number)].next
        prefilled(cell, number, batch_size, marginal_ms)
        number = after
    number = riding.first
    for _ in range(riding.count):
        after = requests[at(number)].next
        verified(cell, number, others, batch_size, marginal_ms)
        number = after
    riding.count = 0
    number = target.first_decoding
    for _ in range(target.decoding):
        after = requests[at(number)].next
        decoded(cell, number, others, batch_size, marginal_ms)
        number = after


@part
def added_ms(cell: Cell, place: int, tokens: int, added: int) -> float:
    """Return the extra ms that the last `added` of `tokens` tokens bring to a pass."""
    target = cell.targets[at(place)]
    return added_tokens_ms(tokens, added, target.token_ms, target.weights_ms, target.compute_ms)


@part
def prefilled(cell: Cell, number: int, batch_size: int, marginal_ms: float) -> None:
    """Go on with a prefill; at its end send the first token."""
    request = cell.requests[at(number)]
    target = cell.targets[at(request.target)]
    if request.prefilled == 0:
        request.queued_ms = target.start_ms - request.queued_ms
    request.prefilled += request.chunk
    if request.prefilled < request.prompt_tokens:
        return
    remove(cell.queues[at(request.target * QUEUES + PREFILLING)], cell.requests, number)
    request.verified = 1
    send(cell, number, 1, 0, request.queued_ms, batch_size, marginal_ms, 0.0, True)


@part
def verified(cell: Cell, number: int, others: int, batch_size: int, marginal_ms: float) -> None:
    """Accept the drafts that agree up to the first that does not; the target's own next token comes on top."""
    request = cell.requests[at(number)]
    before = request.verified
    missing = request.output_tokens - before
    accepted = min(request.agreed, missing)
    tokens = min(accepted + 1, missing)
    cost_ms = presence_ms(cell, number, request.drafted + 1, others)
    request.verified = before + tokens
    wait_ms = cell.targets[at(request.target)].start_ms - request.queued_ms
    send(cell, number, tokens, accepted, wait_ms, batch_size, marginal_ms, cost_ms, True)


@part
def decoded(cell: Cell, number: int, others: int, batch_size: int, marginal_ms: float) -> None:
    """Add a token to the chunk; send it when it is full, or when this stream stops or ends."""
    request = cell.requests[at(number)]
    tokens = min(1, request.output_tokens - request.verified)
    if request.decoded_in_chunk == 0:
        request.externality_ms = 0.0
    request.externality_ms += presence_ms(cell, number, 1, others)
    request.verified += tokens
    request.decoded_in_chunk += tokens
    final = request.stopping == 1 or request.verified == request.output_tokens
    if not final and request.decoded_in_chunk < cell.state.chunk_tokens:
        return
    sent = request.decoded_in_chunk
    request.decoded_in_chunk = 0
    if final:
        remove(cell.queues[at(request.target * QUEUES + DECODING)], cell.requests, number)
    send(cell, number, sent, 0, 0.0, batch_size, marginal_ms, request.externality_ms, final)


@part
def presence_ms(cell: Cell, number: int, tokens: int, others: int) -> float:
    """Return what this request's presence in the pass cost everybody else in it or waiting for it."""
    request = cell.requests[at(number)]
    target = cell.targets[at(request.target)]
    context_tokens = request.prompt_tokens + request.verified
    attention_ms = target.attention_sequence_ms + target.attention_context_ms * context_tokens
    return externality_ms(added_ms(cell, request.target, target.tokens, tokens) + attention_ms, others)


@part
def send(
    cell: Cell,
    number: int,
    tokens: int,
    accepted: int,
    queue_wait_ms: float,
    batch_size: int,
    marginal_ms: float,
    cost_ms: float,
    final: bool,
) -> None:
    """Send a message to a request's edge, with the report of this pass; free the memory of one that has all."""
    state, request = cell.state, cell.requests[at(number)]
    target = cell.targets[at(request.target)]
    if request.verified == request.output_tokens:
        target.free += request.prompt_tokens + request.output_tokens
        target.live -= 1
    place = state.free_message
    message = cell.messages[at(place)]
    state.free_message = message.next
    state.free_messages -= 1
    message.queue_wait_ms, message.iteration_ms = queue_wait_ms, target.total_ms
    message.batch_size, message.iteration_tokens = batch_size, target.tokens
    message.marginal_ms_per_token, message.one_token_iteration_ms = marginal_ms, target.one_token_ms
    message.request, message.next, message.tokens, message.accepted = number, NONE, tokens, accepted
    message.final, message.arrived, message.externality_ms = final, 0, cost_ms
    message.message_bytes = state.header_bytes + state.committed_token_bytes * tokens
    propagation_ms, transmission_ms = way(cell, request.device, state.now_ms, message.message_bytes, False)
    message.propagation_ms = propagation_ms
    if request.first_message == NONE:
        request.first_message = place
    else:
        cell.messages[at(request.last_message)].next = place
    request.last_message = place
    push(state, cell.events, state.now_ms + (propagation_ms + transmission_ms), MESSAGE, place)
