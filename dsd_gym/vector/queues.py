"""The queues of a target, as chains through the records of the requests in them: each is in one at most."""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import at, part
from dsd_gym.vector.layout import NONE, Records


@part
def append(queue: Any, requests: Records, number: int) -> None:
    """Put a request at the end."""
    request = requests[at(number)]
    request.next, request.previous = NONE, NONE
    if queue.count:
        request.previous = queue.last
        requests[at(queue.last)].next = number
    else:
        queue.first = number
    queue.last = number
    queue.count += 1


@part
def append_window(queue: Any, requests: Records, number: int, arrival_ms: float) -> None:
    """Put a request's window behind all that arrived earlier; those of one ms stand in the order of their streams."""
    requests[at(number)].queued_ms = arrival_ms
    after = queue.last if queue.count else NONE
    while after != NONE and requests[at(after)].queued_ms == arrival_ms and after > number:
        after = requests[at(after)].previous
    if queue.count == 0 or after == queue.last:
        append(queue, requests, number)
        return
    before = queue.first if after == NONE else requests[at(after)].next
    requests[at(number)].previous, requests[at(number)].next = after, before
    requests[at(before)].previous = number
    if after == NONE:
        queue.first = number
    else:
        requests[at(after)].next = number
    queue.count += 1


@part
def remove(queue: Any, requests: Records, number: int) -> None:
    """Take a request out."""
    request = requests[at(number)]
    if request.previous == NONE:
        queue.first = request.next
    else:
        requests[at(request.previous)].next = request.next
    if request.next == NONE:
        queue.last = request.previous
    else:
        requests[at(request.next)].previous = request.previous
    queue.count -= 1
