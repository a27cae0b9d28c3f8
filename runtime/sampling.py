"""How the next token is drawn: warped probabilities, the short distribution that an edge sends, and whose luck it is.

`warp` is the distribution that `transformers` would sample from. The draft draws from less: `sparse` keeps the
`SUPPORT` most probable tokens of it with 16-bit weights. What is sent *is* what was drawn from, so verification stays
exact; truncation costs a little acceptance and never the distribution of the output.

Luck is looked up by key (`dsd_gym.luck`): the same seed and the same windows give the same text, also over a
connection that was lost. The seed alone does not fix the text. A position that is drafted takes its token from
`DRAFT_DRAW` and `ACCEPT_TEST`, one that is not from `TARGET_DRAW`: both follow the target's distribution, and they are
different samples of it.

Two rules keep the output exact whatever the controller does:

* Whether a position is drafted may depend on anything but the token drawn there. A controller that lets the cloud
  decode whenever an unlikely token was drawn would keep the likely ones twice. So it is shown `SparseProbs.confidence`,
  which does not depend on the draw.
* A position that is drafted again, after a rejection before it, is drawn anew. The discarded token may have been seen
  (as confidence, as an early stop), so its luck is spent: the key of a draft's draw holds the round's first position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dsd_gym.luck import uniform
from runtime.messages import Refused, Sampling

SUPPORT = 32
"""Most tokens that a sent distribution keeps."""
MAX_TOKEN_BYTES = 1 + 6 * SUPPORT
"""Most bytes that a drafted token's distribution takes on the wire: its size, then 4 + 2 for each token it keeps."""
MIN_TEMPERATURE = 1e-3
"""Below it (0, greedy, apart) a float32 logit could overflow, and the draw would be greedy anyway."""

DRAFT_DRAW = 21
"""Kinds of luck, beside those of `dsd_gym.luck`: the edge's draw of a drafted token,"""
ACCEPT_TEST = 22
"""the target's test of it,"""
TARGET_DRAW = 23
"""and the target's own draw, of a recovered, bonus or cloud token."""

_FULL_WEIGHT = 65535
_HEAD = (
    1024  # tokens that nearly always hold the nucleus; sorting 150,000 of them takes 10 ms of a CPU, finding these 1
)


class SparseProbs(NamedTuple):
    """A draft distribution as it is drawn from and sent: probability = weight / sum of weights, descending."""

    tokens: NDArray[np.uint32]
    weights: NDArray[np.uint16]

    @property
    def probs(self) -> NDArray[np.float64]:
        """Return the probability of each of `tokens`."""
        probs: NDArray[np.float64] = self.weights / self.weights.sum(dtype=np.float64)
        return probs

    @property
    def confidence(self) -> float:
        """Return the largest probability: what a controller may know of the draw to come, or of one that was made."""
        return float(self.probs[0])

    def probability(self, token: int) -> float:
        """Return the probability of `token`, 0 where it is not kept."""
        return float(self.probs[self.tokens == token].sum())

    def draw(self, number: float) -> int:
        """Return the token that a uniform number in (0, 1) falls on."""
        ends = self.weights.cumsum(dtype=np.int64)
        return int(self.tokens[np.searchsorted(ends, number * int(ends[-1]), side="right")])


def settled(temperature: float) -> float:
    """Return 0 in the place of a temperature so low that draws would be greedy anyway; any other as it is."""
    return 0.0 if 0.0 < temperature < MIN_TEMPERATURE else temperature


def check(sampling: Sampling) -> None:
    """Raise Refused unless tokens can be drawn as `sampling` says."""
    if sampling.temperature != 0.0 and not MIN_TEMPERATURE <= sampling.temperature < math.inf:
        raise Refused(f"temperature {sampling.temperature}: must be 0 (greedy) or at least {MIN_TEMPERATURE}")
    if not 0.0 < sampling.top_p <= 1.0:
        raise Refused(f"top_p {sampling.top_p}: must be above 0 and at most 1 (1: off)")
    if not 0 <= sampling.top_k < 2**31:
        raise Refused(f"top_k {sampling.top_k}: must be at least 0 (off) and below 2^31")
    if not 0 <= sampling.seed < 2**63:
        raise Refused(f"seed {sampling.seed}: must be at least 0 and below 2^63")


def draft_uniform(sampling: Sampling, committed: int, ahead: int) -> float:
    """Return the luck of the draft's guess `ahead` (0 is the first) in the round that began at `committed` tokens."""
    return uniform(sampling.seed, DRAFT_DRAW, committed, ahead)


def warp(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return the probabilities that `transformers` samples from: temperature, then top-k, then top-p.

    The rules are those of its TemperatureLogitsWarper, TopKLogitsWarper (all tokens tied with the k-th stay) and
    TopPLogitsWarper (the fewest most probable tokens that reach `top_p`; which of equal ones stay is up to the sort).

    Args:
        logits: shape (n, vocab).
        sampling: not greedy.

    Returns:
        float64, shape (n, vocab), on the device of `logits`.
    """
    scores = logits.float() / sampling.temperature
    if sampling.top_k:
        lowest = scores.topk(min(sampling.top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < lowest, -math.inf)
    if sampling.top_p < 1.0:
        scores = _nucleus(scores, sampling.top_p)
    return scores.double().softmax(-1)


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the fewest tokens that reach `top_p`: among the `_HEAD` best where they do, so that no row is sorted."""
    total = scores.double().logsumexp(-1, keepdim=True)
    best, tokens = scores.topk(min(_HEAD, scores.shape[-1]))
    if float((best - total).exp().sum(-1).min()) < top_p:
        best, tokens = scores.sort(descending=True)
    probs = (best - total).exp()
    dropped = probs.cumsum(-1) - probs >= top_p
    dropped[:, 0] = False
    return torch.full_like(scores, -math.inf).scatter(-1, tokens, best.masked_fill(dropped, -math.inf))


def draw(probs: torch.Tensor, number: float) -> int:
    """Return the token that a uniform number in (0, 1) falls on; `probs` (vocab,) need not sum to 1.

    Raises:
        ValueError: the probabilities are not numbers, as after an overflow in the model.
    """
    ends = probs.cumsum(0)
    total = float(ends[-1])
    if not 0.0 < total < math.inf:
        raise ValueError("the model's probabilities are not finite numbers")
    return int(torch.searchsorted(ends, number * total, right=True))


def sparse(probs: torch.Tensor, support: int = SUPPORT) -> SparseProbs:
    """Return the distribution to draw a drafted token from, and to send; tokens whose weight rounds to 0 are dropped.

    Args:
        probs: shape (vocab,), as `warp` gives them.
        support: most tokens to keep.

    Raises:
        ValueError: the probabilities are not numbers, as after an overflow in the model.
    """
    best = probs.topk(min(support, len(probs)))
    kept: NDArray[np.float64] = best.values.cpu().numpy()
    if not 0.0 < kept[0] < math.inf:
        raise ValueError("the model's probabilities are not finite numbers")
    weights = np.rint(kept * (_FULL_WEIGHT / kept[0])).astype(np.uint16)
    tokens = best.indices.cpu().numpy().astype(np.uint32)
    return SparseProbs(tokens[weights > 0], weights[weights > 0])


def encode(window: Sequence[SparseProbs]) -> bytes:
    """Return a window's distributions as sent, at most `MAX_TOKEN_BYTES` for each drafted token.

    Each is its size (one byte), its tokens (4 bytes each) and their weights (2 bytes each), little-endian.
    """
    return b"".join(
        bytes([len(tokens)]) + tokens.astype("<u4").tobytes() + weights.astype("<u2").tobytes()
        for tokens, weights in window
    )


def decode(data: bytes, window: int, vocab_size: int) -> list[SparseProbs]:
    """Return the `window` distributions that `encode` wrote; Refused on anything it cannot have written."""
    decoded: list[SparseProbs] = []
    start = 0
    for number in range(1, window + 1):
        where = f"draft_probs: distribution {number} of {window}"
        kept = data[start] if start < len(data) else 0
        middle, end = start + 1 + 4 * kept, start + 1 + 6 * kept
        if end > len(data):
            raise Refused(f"{where} is cut short: {len(data)} bytes in all")
        if not 1 <= kept <= SUPPORT:
            raise Refused(f"{where} has {kept} tokens: must be 1 to {SUPPORT}")
        probs = SparseProbs(
            np.frombuffer(data[start + 1 : middle], "<u4").astype(np.uint32),
            np.frombuffer(data[middle:end], "<u2").astype(np.uint16),
        )
        _check_sparse(probs, vocab_size, where)
        decoded.append(probs)
        start = end
    if start != len(data):
        raise Refused(f"draft_probs: {len(data) - start} bytes are left after the distributions of {window} tokens")
    return decoded


def _check_sparse(probs: SparseProbs, vocab_size: int, where: str) -> None:
    tokens, weights = probs
    if tokens.max() >= vocab_size:
        raise Refused(f"{where} has token {tokens.max()}: the vocabulary has {vocab_size}")
    if len(np.unique(tokens)) < len(tokens):
        raise Refused(f"{where} has a token twice")
    if weights.min() == 0:
        raise Refused(f"{where} has a weight of 0")
    if (weights[1:] > weights[:-1]).any():
        raise Refused(f"{where} has weights that are not in descending order")
