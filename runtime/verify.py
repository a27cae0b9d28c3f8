"""Which drafted tokens the target accepts, and the one token of its own that follows them.

Lossless: greedy output is the target's own, and sampled output has exactly the target's warped distribution, whatever
the draft guesses and however long its windows are. Sampled windows are verified by rejection sampling (Leviathan,
Kalman and Matias, arXiv 2211.17192, algorithm 1 and appendix A.1): a drafted token x is accepted with probability
min(1, target_probs[x] / draft_probs[x]); the first that is not is replaced by a draw from
max(target_probs - draft_probs, 0), the recovered token; after a window without a rejection comes a draw from
target_probs, the bonus token. Test and draw at one position use different luck, so they are independent.

Exact with respect to the distributions that the edge says it drew from: an edge that lies changes its own text only.
And exact for the logits of the pass: one over several tokens may round otherwise than a step does, so two tokens whose
logits are within that rounding (1e-4 is ample in float32; bfloat16 has many such ties) may change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from dsd_gym.luck import uniform
from runtime.messages import Refused, Sampling
from runtime.sampling import ACCEPT_TEST, TARGET_DRAW, SparseProbs, draw, warp


class Outcome(NamedTuple):
    """How many drafted tokens are accepted, and the target's token after them: recovered or bonus."""

    accepted: int
    token: int


def verify(
    logits: torch.Tensor,
    drafted: Sequence[int],
    draft_probs: Sequence[SparseProbs] | None,
    sampling: Sampling,
    position: int,
) -> Outcome:
    """Verify a window.

    Args:
        logits: shape (window + 1, vocab); row i is the target's for output position `position + i`.
        drafted: the window's tokens.
        draft_probs: what each of them was drawn from; not looked at where tokens are chosen greedily.
        sampling: how tokens are chosen.
        position: output tokens committed before the window.

    Raises:
        Refused: a drafted token cannot have been drawn from its distribution.
    """
    if sampling.greedy:
        return verify_greedy(logits.argmax(-1).tolist(), drafted)
    sent = list(draft_probs or ())
    chances = _chances(drafted, sent)
    for row, (token, chance) in enumerate(zip(drafted, chances, strict=True)):
        target_probs = warp(logits[row : row + 1], sampling)[0]
        number = uniform(sampling.seed, ACCEPT_TEST, 0, position + row)
        if not number * chance < float(target_probs[token]):
            return Outcome(row, _draw(residual(target_probs, sent[row]), sampling, position + row))
    return Outcome(len(drafted), choose(logits[len(drafted)], sampling, position + len(drafted)))


def verify_greedy(choices: Sequence[int], drafted: Sequence[int]) -> Outcome:
    """Verify a window against the target's most probable tokens, one more of them than were drafted.

    `torch.argmax` takes the lowest of tokens with equal logits, here and in `generate(do_sample=False)`.
    """
    for row, token in enumerate(drafted):
        if token != choices[row]:
            return Outcome(row, choices[row])
    return Outcome(len(drafted), choices[len(drafted)])


def choose(logits: torch.Tensor, sampling: Sampling, position: int) -> int:
    """Return the target's token at an output position where nothing was drafted; `logits` has shape (vocab,)."""
    if sampling.greedy:
        return int(logits.argmax())
    return _draw(warp(logits[None], sampling)[0], sampling, position)


def residual(target_probs: torch.Tensor, draft_probs: SparseProbs) -> torch.Tensor:
    """Return max(target_probs - draft_probs, 0), not normalised: what a recovered token is drawn from.

    Where rounding leaves nothing, the two are equal, a rejection had no chance, and `target_probs` itself is returned.
    """
    left = target_probs.clone()
    tokens = torch.from_numpy(draft_probs.tokens.astype("int64")).to(left.device)
    left[tokens] -= torch.from_numpy(draft_probs.probs).to(left.device)
    left.clamp_(min=0.0)
    return target_probs if float(left.sum()) == 0.0 else left


def _chances(drafted: Sequence[int], draft_probs: Sequence[SparseProbs]) -> list[float]:
    """Return the draft probability of each drafted token; Refused where it is 0 or not known."""
    if len(draft_probs) != len(drafted):
        raise Refused(f"draft_probs: {len(draft_probs)} distributions for {len(drafted)} drafted tokens")
    chances = [probs.probability(token) for token, probs in zip(drafted, draft_probs, strict=True)]
    for number, (token, chance) in enumerate(zip(drafted, chances, strict=True), start=1):
        if chance == 0.0:
            raise Refused(f"drafted token {number} of {len(drafted)}: {token} is not in its own distribution")
    return chances


def _draw(probs: torch.Tensor, sampling: Sampling, position: int) -> int:
    return draw(probs, uniform(sampling.seed, TARGET_DRAW, 0, position))
