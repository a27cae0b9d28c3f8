"""What edge and target say to each other, whatever carries it, and how either end may fail the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from dsd_gym.observation import Report

PROTOCOL_VERSION = 1

Finish = Literal["", "stop", "length"]
"""Why a request has ended: an end token, or `max_new_tokens`; empty while more may come."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. `temperature` 0 is greedy; `top_p` 1 and `top_k` 0 keep every token."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Return whether the most probable token is always taken."""
        return self.temperature == 0.0


class Opening(NamedTuple):
    """The first message of a request. After a lost connection `committed` holds the output tokens so far."""

    prompt: Sequence[int]
    committed: Sequence[int]
    max_new_tokens: int
    sampling: Sampling
    ignore_eos: bool = False


class Verdict(NamedTuple):
    """A message from the target: the first token, the verdict on a window, or a chunk decoded in the cloud."""

    position: int
    """Output tokens committed before this message."""
    accepted: int
    """Drafted tokens that are committed; they are not sent back."""
    tokens: tuple[int, ...]
    """Tokens of the target's own that follow them: recovered or bonus token, first token, or the chunk."""
    final: bool
    """The target does not decode this stream on its own (any more)."""
    finish: Finish
    report: Report
    target_ms: float
    """From the arrival of what this answers to its sending; 0 in a chunk."""
    externality_ms: float


class Disconnected(Exception):
    """The connection is gone or silent; the request may go on over another one."""


class Busy(Exception):
    """The target takes no more for now."""

    def __init__(self, message: str, retry_ms: float) -> None:
        super().__init__(message)
        self.retry_ms = retry_ms


class Refused(Exception):
    """The target will never serve this: a token that does not exist, a limit."""


class Misfit(Refused):
    """It would not serve any other request of this edge either: a wrong model pair, a missing permission."""


class Failed(Refused):
    """It failed on this; another request, or the same one again, may do."""


class Description(NamedTuple):
    """What a target says of itself."""

    model: str
    tokenizer: str
    """Fingerprint of its vocabulary."""
    parameters: int
    max_window: int
    max_context_tokens: int


class Stream(Protocol):
    """One request's conversation with a target, seen from the edge. Any call may raise `Disconnected` or `Refused`."""

    uplink_bytes: int
    """Bytes of all messages sent so far, and below of those received."""
    downlink_bytes: int
    max_window: int
    """Tokens of the longest window that the target takes."""

    async def verify(self, position: int, tokens: Sequence[int], draft_probs: bytes) -> None:
        """Send a window; `draft_probs` is empty where tokens are chosen greedily."""

    async def decode(self, position: int) -> None:
        """Let the target decode on its own until `stop`."""

    async def stop(self) -> None:
        """End cloud decoding; the last chunk to come has `final` set."""

    async def receive(self) -> Verdict:
        """Return the next message."""

    async def ping(self) -> float:
        """Return the ms of one round trip."""

    async def close(self) -> None:
        """End the conversation; the target frees what it holds. Never raises."""


class Target(Protocol):
    """A target model somewhere."""

    async def describe(self) -> Description:
        """Return what it says of itself."""

    async def open(self, opening: Opening) -> Stream:
        """Begin a request: prefill starts, and the first `receive` brings a token. `Busy` where it is full."""
