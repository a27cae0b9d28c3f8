"""What a pass decides for each of its sessions: how much of a window stands, and the token that follows."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence as Items
from typing import NamedTuple, TypeAlias

import torch

from runtime.messages import Failed, Refused
from runtime.target.batch import Part
from runtime.target.session import State
from runtime.verify import Outcome, verify, verify_greedy

log = logging.getLogger(__name__)


class PassFailed(Failed):
    """The pass that a session was in has failed, and the session with it."""


Result: TypeAlias = Outcome | Refused | None
"""Of one part of a pass; None for a prefill chunk before the last."""


def outcomes(batch: Items[Part], logits: torch.Tensor) -> list[Result]:
    """Return each part's result.

    Args:
        logits: shape (rows of all parts, vocabulary), part after part.
    """
    greedy = any(part.rows and part.session.opening.sampling.greedy for part in batch)
    choices = logits.argmax(dim=-1).tolist() if greedy else []
    found: list[Result] = []
    start = 0
    for part in batch:
        end = start + part.rows
        found.append(_outcome(part, logits[start:end], choices[start:end]) if part.rows else None)
        start = end
    return found


def _outcome(part: Part, logits: torch.Tensor, choices: list[int]) -> Outcome | Refused:
    session = part.session
    sampling = session.opening.sampling
    if sampling.greedy:
        return verify_greedy(choices, session.window)
    try:
        return verify(logits, session.window, session.draft_probs or [], sampling, session.committed)
    except Refused as error:  # a new one, for a raised one holds on to the pass
        return Refused(str(error))
    except Exception:  # one session's numbers must not end the others'
        log.error("a window could not be verified\n%s", traceback.format_exc())
        return PassFailed("the target could not verify the window")


class Iteration(NamedTuple):
    """One pass, for whoever keeps statistics."""

    started_ms: float
    iteration_ms: float
    batch_size: int
    tokens: int
    windows: list[tuple[int, int]]
    """Drafted and accepted tokens of each."""
    decoded: int
    """Tokens of cloud decoding."""
    prefilled: int
    queue_waits_ms: list[float]
    """Of windows, and of prefills that began."""


def iteration(batch: Items[Part], results: Items[Result], started_ms: float, ended_ms: float) -> Iteration:
    """Sum a pass up."""
    windows = [
        (len(part.tokens) - 1, result.accepted)
        for part, result in zip(batch, results, strict=True)
        if part.purpose is State.VERIFYING and isinstance(result, Outcome)
    ]
    return Iteration(
        started_ms,
        ended_ms - started_ms,
        len(batch),
        sum(len(part.tokens) for part in batch),
        windows,
        sum(part.purpose is State.DECODING for part in batch),
        sum(len(part.tokens) for part in batch if part.purpose is State.PREFILLING),
        [part.session.queue_wait_ms for part in batch if part.waited],
    )
