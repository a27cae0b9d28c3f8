"""How good the tiny pair is on text that it has not seen: losses, and how often the target agrees with the draft."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from runtime.tiny_pair.text import KINDS, documents
from runtime.tiny_pair.training import encode

BATCHES, ROWS, COLUMNS = 5, 4, 256  # for each kind of text
MEASURED = BATCHES * ROWS * COLUMNS  # tokens


class Measures(NamedTuple):
    """Means over held-out tokens of one kind.

    `acceptance` is one minus the total variation between the two distributions, the chance that a token drafted at
    temperature 1 is accepted (https://arxiv.org/abs/2211.17192, corollary 3.6); `greedy` how often the likeliest
    tokens agree.
    """

    target_loss: float
    draft_loss: float
    acceptance: float
    greedy: float


def measure(target: Any, draft: Any, tokenizer: Any, seed: int) -> dict[str, Measures]:
    """Return the measures of two causal language models by kind of text; losses in nats a token."""
    return {kind: _mean(_compare(target, draft, rows) for rows in _rows(kind, tokenizer, seed)) for kind in KINDS}


def table(measures: dict[str, Measures]) -> str:
    """Return the measures as a Markdown table, one row for each kind of text."""
    lines = [
        "| text | target loss | draft loss | accepted at temperature 1 | accepted, greedy |",
        "| --- | --: | --: | --: | --: |",
    ]
    for kind, found in measures.items():
        lines.append(f"| {kind} | " + " | ".join(f"{value:.2f}" for value in found) + " |")
    return "\n".join(lines)


def _rows(kind: str, tokenizer: Any, seed: int) -> Iterable[torch.Tensor]:
    """Return batches of shape (4, 257), packed with held-out documents."""
    wanted = BATCHES * ROWS * (COLUMNS + 1)
    texts, tokens = documents(kind, seed, held_out=True), torch.empty(0, dtype=torch.int64)
    while len(tokens) < wanted:
        tokens = torch.cat([tokens, encode(tokenizer, list(itertools.islice(texts, 50)))])
    return tokens[:wanted].view(BATCHES, ROWS, COLUMNS + 1)


@torch.no_grad()
def _compare(target: Any, draft: Any, rows: torch.Tensor) -> torch.Tensor:
    """Return the four measures of one batch."""
    inputs, following = rows[:, :-1], rows[:, 1:, None]
    wanted = target(input_ids=inputs, use_cache=False).logits.float().log_softmax(-1)
    guessed = draft(input_ids=inputs, use_cache=False).logits.float().log_softmax(-1)
    overlap = torch.minimum(wanted.exp(), guessed.exp()).sum(-1)
    agree = (wanted.argmax(-1) == guessed.argmax(-1)).float()
    losses = [-wanted.gather(-1, following), -guessed.gather(-1, following)]
    return torch.stack([value.mean() for value in (*losses, overlap, agree)])


def _mean(batches: Iterable[torch.Tensor]) -> Measures:
    return Measures(*torch.stack(list(batches)).mean(0).tolist())
