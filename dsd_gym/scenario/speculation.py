"""How drafts fare, what cloud decoding means, and what goes over the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsd_gym.config import Count, NonNegative, Probability


@dataclass(frozen=True)
class Acceptance:
    """How well drafts are guessed: a measured profile, one constant probability for every position, or a recording."""

    profile: Literal["maths", "summaries", "code", "chat", "constant", "recorded"] = "chat"
    probability: Probability | None = None
    file: str | None = None
    """A recording, as `python -m dsd_gym.record_acceptance` writes it."""
    sampling: Literal["greedy", "temperature_1"] = "greedy"
    """Of the measured profiles; a constant probability and a recording are what they say."""

    def __post_init__(self) -> None:
        if (self.profile == "constant") != (self.probability is not None):
            raise ValueError("probability is for profile 'constant', which needs it")
        if (self.profile == "recorded") != (self.file is not None):
            raise ValueError("file is for profile 'recorded', which needs it")


@dataclass(frozen=True)
class Cloud:
    """What window 0 means: the target decodes alone (`plain`) or with a co-located draft of `draft_window` tokens."""

    mode: Literal["plain", "draft"] = "plain"
    chunk_tokens: Count = 8
    """Received tokens after which the controller is asked again."""
    draft_model: str = "Llama-3.2-1B"
    draft_window: Count = 3


@dataclass(frozen=True)
class Messages:
    """Bytes on the wire."""

    prompt_token_bytes: NonNegative = 4.0
    header_bytes: NonNegative = 100.0
    payload: Literal["ids", "distribution"] = "ids"
    """What a drafted token costs on the uplink: its id, or its id and the `top_k` most likely with probabilities."""
    top_k: Count = 32
    committed_token_bytes: NonNegative = 4.0

    @property
    def draft_token_bytes(self) -> float:
        """Return the uplink bytes of one drafted token: a 4-byte id, and 4 + 2 bytes for each listed probability."""
        return 4.0 if self.payload == "ids" else 4.0 + 6.0 * self.top_k
