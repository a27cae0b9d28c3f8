"""Who rides in the next pass."""

from __future__ import annotations

from bisect import insort

from dsd_gym.request import Request
from dsd_gym.scenario import TargetClass
from dsd_gym.target.batch import NO_WINDOWS, Batch, Padding, Window
from dsd_gym.target.memory import Memory
from dsd_gym.target.queues import Queues


class Filler:
    """Fills passes: windows first, then cloud decoding, then prefill chunks in what is left of the tokens.

    Without chunked prefill, a pass of whole prompts alone comes before all else.
    """

    def __init__(self, spec: TargetClass, queues: Queues, memory: Memory, tokens_per_decode: int) -> None:
        self._spec, self._queues, self._memory = spec, queues, memory
        self._tokens_per_decode = tokens_per_decode

    def next_batch(self) -> Batch:
        """Take from the queues what the next pass serves."""
        spec, tokens_per_decode = self._spec, self._tokens_per_decode
        self._memory.new_pass()
        if not spec.chunked_prefill:
            self._begin_prefills()
            if self._queues.prefilling:
                return Batch([], [], self._whole_prompts())
        room, budget = spec.max_sequences, spec.max_batch_tokens
        windows, padding, budget = self._take_windows(room, budget)
        room -= len(windows)
        decoding = self._take_decoding(min(room, budget // tokens_per_decode))
        if not spec.chunked_prefill:  # whoever gets the memory that somebody just lost, begins with the next pass
            return Batch(decoding, windows, [], padding)
        room, budget = room - len(decoding), budget - len(decoding) * tokens_per_decode
        self._begin_prefills()
        return Batch(decoding, windows, self._prefill_chunks(room, budget), padding)

    @property
    def full(self) -> bool:
        """Whether what is there would fill a pass."""
        sequences, tokens = self._queues.sequences_and_tokens(self._tokens_per_decode)
        return sequences >= self._spec.max_sequences or tokens >= self._spec.max_batch_tokens

    def _take_windows(self, room: int, budget: int) -> tuple[list[Window], Padding | None, int]:
        """Return windows up to the first that does not fit, and the tokens left; who gets no memory is passed over."""
        queues, memory, taken, left = self._queues, self._memory, list[Window](), list[Window]()
        padding = NO_WINDOWS if self._spec.padded else None
        if not queues.windows:
            return taken, None, budget
        queues.windows.sort()
        waiting = queues.order.arrange(queues.windows)
        for at, window in enumerate(waiting):
            tokens = window.drafted + 1
            grown = padding and padding.with_window(tokens)
            cost = grown.tokens - padding.tokens if grown and padding else tokens
            if len(taken) == room or cost > budget:
                left += waiting[at:]
                break
            if memory.fixed or memory.grow(window.request, tokens):
                taken.append(window)
                padding, budget = grown, budget - cost
            else:
                left.append(window)
        queues.windows = left
        return taken, padding, budget

    def _take_decoding(self, room: int) -> list[Request]:
        """Return the streams that decode; where not all do, those of one rank take turns."""
        streams = list(self._queues.decoding.values())
        if len(streams) <= room and self._memory.fixed:
            return streams
        if len(streams) > room:
            streams.sort(key=self._queues.order.rank)
        chosen: list[Request] = []
        for request in streams:
            if len(chosen) == room:
                break
            if self._memory.grow(request, self._tokens_per_decode):
                chosen.append(request)
        if len(chosen) < len(streams):
            for request in chosen:
                del self._queues.decoding[request.arrival.stream]
                self._queues.decoding[request.arrival.stream] = request
        return chosen

    def _begin_prefills(self) -> None:
        """Give memory to requests that wait for it, up to the first for which it does not suffice."""
        queues = self._queues
        if not queues.waiting:
            return
        arranged, begun = queues.order.arrange(queues.waiting), 0
        while begun < len(arranged) and self._memory.begin(arranged[begun].request):
            insort(queues.prefilling, arranged[begun])
            begun += 1
        if begun:
            queues.waiting = sorted(arranged[begun:])

    def _prefill_chunks(self, room: int, budget: int) -> list[tuple[Request, int]]:
        """Return requests with the tokens of their prompts that still fit."""
        prefills: list[tuple[Request, int]] = []
        if not self._queues.prefilling:
            return prefills
        budget = min(budget, self._spec.prefill_chunk_tokens or budget)
        for _, _, request in self._queues.order.arrange(self._queues.prefilling):
            if not budget or len(prefills) == room:
                break
            chunk = min(budget, request.prefill_tokens - request.prefilled)
            prefills.append((request, chunk))
            budget -= chunk
        return prefills

    def _whole_prompts(self) -> list[tuple[Request, int]]:
        """Return requests with all tokens of their prompts; one that is longer than any pass has one alone."""
        prefills: list[tuple[Request, int]] = []
        budget = self._spec.max_batch_tokens
        for queued in self._queues.order.arrange(self._queues.prefilling):
            if prefills and (queued.tokens > budget or len(prefills) == self._spec.max_sequences):
                break
            prefills.append((queued.request, queued.tokens))
            budget -= queued.tokens
        return prefills
