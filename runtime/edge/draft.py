"""The draft model: reads what is committed, guesses what comes next, and knows how long it takes.

A window is guessed in one call, so that the thread that runs it is entered once. The cache keeps accepted tokens: a
rollback is a smaller `read_tokens`, and the next pass takes all tokens behind it at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from typing import NamedTuple

import torch

from runtime.kv_cache import Sequence
from runtime.messages import Sampling
from runtime.model import LanguageModel
from runtime.sampling import SparseProbs, draft_uniform, sparse, warp

GAIN = 0.125
"""Weight of the newest pass in the smoothed times."""
STEP_TOKENS = 2
"""Most tokens of a draft step: a window that was accepted whole leaves two unread."""
READ_TOKENS = 16
"""Fewest tokens whose reading is timed; the time of fewer is all noise."""
PROBE_TOKENS = 64


class Guess(NamedTuple):
    """A drafted token. `probs`, what it was drawn from, is None where tokens are chosen greedily."""

    token: int
    confidence: float
    """The largest probability there: it does not depend on the draw (`runtime.sampling` says why it must not)."""
    probs: SparseProbs | None


class DraftState:
    """One request as its draft sees it: the prompt and the committed tokens, and how many of them are in the cache."""

    __slots__ = ("context", "ends", "prompt_tokens", "read_tokens", "sampling", "sequence")

    def __init__(self, sequence: Sequence, prompt: Items[int], sampling: Sampling, ends: frozenset[int]) -> None:
        self.sequence, self.sampling, self.ends = sequence, sampling, ends
        self.context = list(prompt)
        self.prompt_tokens = len(self.context)
        self.read_tokens = 0

    @property
    def committed(self) -> int:
        """Return how many output tokens there are."""
        return len(self.context) - self.prompt_tokens

    def commit(self, guesses: Items[Guess], accepted: int, tokens: Items[int]) -> None:
        """Take in the accepted ones of `guesses` and the target's own tokens; all accepted but the last are read."""
        self.context += [guess.token for guess in guesses[:accepted]]
        self.context += tokens
        self.read_tokens += max(0, min(accepted, len(guesses) - 1))


class Draft:
    """A language model that guesses. Not thread-safe: `runtime.edge.device` runs its passes."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.draft_ms_per_token = self.read_ms_per_token = 0.0
        """Smoothed: the ms of a draft step, and the ms that each token to read adds to one."""
        self._warm_up()
        self.busy_ms = 0.0
        """Spent in passes so far."""

    def new_state(self, prompt: Items[int], sampling: Sampling, ends: frozenset[int]) -> DraftState:
        """Return the state of a new request; a window ends with a guess that is one of `ends`."""
        return DraftState(self.model.new_sequence(), prompt, sampling, ends)

    def read(self, state: DraftState) -> None:
        """Read the prompt."""
        self._pass(state, state.context[: state.prompt_tokens], None)
        state.read_tokens = state.prompt_tokens

    def guess(self, state: DraftState) -> Guess:
        """Return the guess for the next output token: one pass over whatever is unread."""
        state.sequence.rollback(state.read_tokens)
        guess = self._guess(state, state.context[state.read_tokens :], 0)
        state.read_tokens = len(state.context)
        return guess

    def window(
        self, state: DraftState, first: Guess | None, length: int, stop_threshold: float | None = None
    ) -> list[Guess]:
        """Return `length` guesses; `first` is given if it was made already.

        There are fewer where one is an end token, or makes the product of confidences fall under `stop_threshold`.
        """
        guesses = [first or self.guess(state)]
        product = guesses[0].confidence
        while len(guesses) < length and guesses[-1].token not in state.ends and product >= (stop_threshold or 0.0):
            guesses.append(self._guess(state, [guesses[-1].token], len(guesses)))
            product *= guesses[-1].confidence
        return guesses

    def _guess(self, state: DraftState, unread: Items[int], ahead: int) -> Guess:
        guess = self._pass(state, unread, ahead)
        assert guess is not None
        return guess

    @torch.inference_mode()
    def _pass(self, state: DraftState, tokens: Items[int], ahead: int | None) -> Guess | None:
        """Feed tokens and choose the next one, `ahead` of the first guess; None only reads. Take the time of it."""
        start_s = time.perf_counter()
        last = self.model.vocab_size - 1  # a target's embedding may have more rows, for tokens that nobody writes
        logits = self.model.forward([(state.sequence, [min(token, last) for token in tokens])], [1])[0]
        if ahead is None:
            guess = None
            logits[0].item()  # waits for the device, as choosing a token does
        else:
            guess = choose(logits, state.sampling, state.committed, ahead)
        self._took((time.perf_counter() - start_s) * 1000.0, len(tokens))
        return guess

    def _took(self, pass_ms: float, tokens: int) -> None:
        self.busy_ms += pass_ms
        if tokens <= STEP_TOKENS:
            self.draft_ms_per_token = _smooth(self.draft_ms_per_token, pass_ms)
        elif tokens >= READ_TOKENS:
            added_ms = max(0.0, pass_ms - self.draft_ms_per_token) / (tokens - 1)
            self.read_ms_per_token = _smooth(self.read_ms_per_token, added_ms)

    def _warm_up(self) -> None:
        """Take the first times, after passes that do not count: those of a cold model are far off."""
        self.busy_ms = 0.0
        probe = [1] * max(2, min(PROBE_TOKENS, self.model.max_context_tokens // 2))
        for _ in range(2):
            state = self.new_state(probe, Sampling(), frozenset())
            self.guess(state)
            self.draft_ms_per_token = self.read_ms_per_token = 0.0
            for _ in range(3):
                state.read_tokens = len(probe) - 1
                self.guess(state)
        self.read(self.new_state(probe, Sampling(), frozenset()))


def choose(logits: torch.Tensor, sampling: Sampling, committed: int, ahead: int) -> Guess:
    """Return the guess `ahead` of the first of a round that began at `committed` tokens; `logits` has shape (vocab,).

    Greedily the confidence is the softmax probability at temperature 1.
    """
    if sampling.greedy:
        confidence, best = logits.softmax(-1).max(-1)
        return Guess(int(best), float(confidence), None)
    probs = sparse(warp(logits[None], sampling)[0])
    return Guess(probs.draw(draft_uniform(sampling, committed, ahead)), probs.confidence, probs)


def _smooth(old: float, new: float) -> float:
    return old + GAIN * (new - old) if old else new
