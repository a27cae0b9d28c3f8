"""One request at the target: its text, its KV cache, what it waits for, and how a pass moves it on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Sequence as Items
from enum import Enum
from typing import TYPE_CHECKING

from dsd_gym.observation import Report
from runtime.kv_cache import Sequence
from runtime.messages import Finish, Opening, Refused, Verdict

if TYPE_CHECKING:
    from runtime.sampling import SparseProbs

Deliver = Callable[[Verdict | Exception], None]


class State(Enum):
    """What a session waits for."""

    QUEUED = "KV memory"
    PREFILLING = "its first token"
    IDLE = "the edge"
    VERIFYING = "a verdict on a window"
    DECODING = "a stop"
    ENDED = "nothing"


class Session:
    """A request's state; the engine alone changes it, under its lock.

    Between passes of an admitted session the cache holds `text[:-1]`, so that a pass feeds the last token and the
    window; before the first token it holds what has been prefilled.
    """

    __slots__ = (
        "arrived_ms",
        "chunk_start",
        "deliver",
        "draft_probs",
        "externality_ms",
        "kv_tokens",
        "opening",
        "prompt_tokens",
        "queue_wait_ms",
        "riding",
        "sequence",
        "state",
        "stopping",
        "text",
        "window",
    )

    def __init__(self, opening: Opening, deliver: Deliver, now_ms: float) -> None:
        self.opening = opening
        self.deliver = deliver
        self.text = [*opening.prompt, *opening.committed]
        """Prompt and committed tokens."""
        self.prompt_tokens = len(opening.prompt)
        self.kv_tokens = self.prompt_tokens + opening.max_new_tokens
        """KV memory that is reserved for its whole life."""
        self.sequence: Sequence | None = None
        self.state = State.QUEUED
        self.riding = False
        """Whether it is in the pass that is running."""
        self.arrived_ms = now_ms
        self.queue_wait_ms = 0.0
        self.window: Items[int] = ()
        self.draft_probs: list[SparseProbs] | None = None
        self.stopping = False
        self.chunk_start = 0
        self.externality_ms = 0.0
        """Of the chunk so far."""

    @property
    def committed(self) -> int:
        """Return the number of output tokens so far."""
        return len(self.text) - self.prompt_tokens

    @property
    def room(self) -> int:
        """Return how many more output tokens there may be."""
        return self.kv_tokens - len(self.text)

    @property
    def unread(self) -> list[int]:
        """Return the tokens of the text that the cache does not hold."""
        return self.text[self.sequence.length if self.sequence else 0 :]

    def check_turn(self, position: int) -> None:
        """Raise Refused unless the session waits for the edge, at this position."""
        if self.state is not State.IDLE:
            raise Refused(f"a command out of turn: the request waits for {self.state.value}")
        if position != self.committed:
            raise Refused(f"position {position}: {self.committed} output tokens are committed")

    def take_window(self, tokens: Items[int], draft_probs: list[SparseProbs] | None, now_ms: float) -> None:
        """Wait for a verdict; what could not be committed any more is left off."""
        self.window = tokens[: self.room]
        self.draft_probs = draft_probs and draft_probs[: self.room]
        self.state, self.arrived_ms = State.VERIFYING, now_ms

    def start_decoding(self) -> None:
        """Decode in the cloud from here on."""
        self.state, self.stopping, self.queue_wait_ms = State.DECODING, False, 0.0
        self.chunk_start, self.externality_ms = self.committed, 0.0

    def answer(self, accepted: int, token: int, ends: Collection[int], report: Report, now_ms: float) -> Verdict:
        """Commit what a window or the prompt has won, and return the verdict; its externality is yet to be put in."""
        position = self.committed
        new, finish = self._commit([*self.window[:accepted], token], ends)
        self.window, self.draft_probs = (), None
        accepted = min(accepted, len(new))
        report = report._replace(queue_wait_ms=self.queue_wait_ms)
        target_ms = now_ms - self.arrived_ms
        return Verdict(position, accepted, tuple(new[accepted:]), True, finish, report, target_ms, 0.0)

    def decoded(self, token: int, ends: Collection[int], report: Report, chunk_tokens: int) -> Verdict | None:
        """Commit a token decoded in the cloud; return the chunk if it is full, or if decoding stops or ends with it."""
        _, finish = self._commit([token], ends)
        start, final = self.chunk_start, self.stopping or bool(finish)
        if not final and self.committed - start < chunk_tokens:
            return None
        self.chunk_start, externality_ms, self.externality_ms = self.committed, self.externality_ms, 0.0
        chunk = tuple(self.text[self.prompt_tokens + start :])
        return Verdict(start, 0, chunk, final, finish, report, 0.0, externality_ms)

    def _commit(self, new: list[int], ends: Collection[int]) -> tuple[list[int], Finish]:
        """Add new tokens to the text as far as it goes, and roll the cache back to what stands."""
        new, finish = cut(new, self.room, () if self.opening.ignore_eos else ends)
        self.text += new
        if self.sequence:
            self.sequence.rollback(len(self.text) - 1)
        return new, finish


def cut(new: list[int], room: int, ends: Collection[int]) -> tuple[list[int], Finish]:
    """Return new tokens up to the first end token or to what there is room for, and whether either ends the output."""
    for count, token in enumerate(new[:room], start=1):
        if token in ends:
            return new[:count], "stop"
    return (new[:room], "length") if len(new) >= room else (new, "")
