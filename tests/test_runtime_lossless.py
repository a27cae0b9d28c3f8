"""Speculation changes nothing: what comes out follows the target's distribution, shown by chi-square tests with power.

The target and the draft are Markov chains over few tokens (a row of logits for each last token), so the distribution
of every output is known exactly. A test passes at p > 1e-4 with fixed seeds; rules that are wrong on purpose must fail
the very same test at p < 1e-6.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from dsd_gym.luck import uniform
from runtime.messages import Sampling
from runtime.sampling import ACCEPT_TEST, DRAFT_DRAW, TARGET_DRAW, SparseProbs, draft_uniform, draw, sparse, warp
from runtime.verify import Outcome, choose, residual, verify
from tests.chi_square import CAUGHT, PASSES, fit, marginal

torch.set_num_threads(1)

RUNS = 3000
VOCAB = 9
SUPPORT = 4
_GENERATOR = torch.Generator().manual_seed(0)
TARGET = torch.randn(VOCAB, VOCAB, generator=_GENERATOR)
DRAFT = TARGET + torch.randn(VOCAB, VOCAB, generator=_GENERATOR)
WARPS = [(heat, *cut) for heat in (0.5, 1.0, 1.7) for cut in ((1.0, 0), (0.85, 0), (0.95, 5))]

Rule = Callable[[torch.Tensor, Sequence[int], Sequence[SparseProbs], Sampling, int], Outcome]
Tokens = tuple[int, ...]
Warps = tuple[float, float, int]


@functools.cache
def draft_probs(last: int, warps: Warps, support: int) -> SparseProbs:
    return sparse(warp(DRAFT[last : last + 1], Sampling(*warps))[0], support)


def target_probs(last: int, sampling: Sampling) -> np.ndarray:
    return warp(TARGET[last : last + 1], sampling)[0].numpy()


def window_of(sampling: Sampling, last: int, committed: int, window: int) -> tuple[Tokens, list]:
    """Draft a window after `last`."""
    tokens, sent = [last], []
    for ahead in range(window):
        sent.append(draft_probs(tokens[-1], (sampling.temperature, sampling.top_p, sampling.top_k), SUPPORT))
        tokens.append(sent[-1].draw(draft_uniform(sampling, committed, ahead)))
    return tuple(tokens[1:]), sent


def speculate(sampling: Sampling, windows: Sequence[int], length: int, rule: Rule = verify) -> Tokens:
    """Return `length` output tokens after token 0, of rounds with the given windows over and over."""
    tokens: list[int] = [0]
    for window in itertools.cycle(windows):
        committed = len(tokens) - 1
        drafted, sent = window_of(sampling, tokens[-1], committed, window)
        logits = TARGET[[tokens[-1], *drafted]]
        accepted, token = rule(logits, drafted, sent, sampling, committed)
        tokens += [*drafted[:accepted], token]
        if len(tokens) > length:
            return tuple(tokens[1 : length + 1])
    raise AssertionError


def exact(sampling: Sampling, length: int) -> dict[Tokens, float]:
    """Return the probability of every output of `length` tokens after token 0."""
    chances = {(0,): 1.0}
    for _ in range(length):
        chances = {
            (*tokens, token): chance * probability
            for tokens, chance in chances.items()
            for token, probability in enumerate(target_probs(tokens[-1], sampling))
        }
    return {tokens[1:]: chance for tokens, chance in chances.items()}


@pytest.mark.parametrize("warps", WARPS)
def test_every_position_and_their_joint_follow_the_target(warps: Warps) -> None:
    windows = [(3, 1, 2), (1, 0, 4), (2,)]
    outputs = [speculate(Sampling(*warps, seed=seed), windows[seed % 3], 3) for seed in range(RUNS)]
    expected = exact(Sampling(*warps), 3)
    for places in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2)):
        found = Counter(tuple(tokens[place] for place in places) for tokens in outputs)
        assert fit(found, marginal(expected, *places)) > PASSES
    assert fit(Counter(outputs), expected) > PASSES


@pytest.mark.parametrize("warps", [(0.5, 1.0, 0), (1.0, 0.85, 0), (1.7, 0.95, 5)])
def test_acceptance_recovered_and_bonus_tokens_each_follow_their_own_distribution(warps: Warps) -> None:
    tested, recovered, bonus = Counter[Tokens](), Counter[int](), Counter[Tokens]()
    for seed in range(RUNS):
        sampling = Sampling(*warps, seed=seed)
        (first,), sent = window_of(sampling, 4, 7, 1)
        accepted, token = verify(TARGET[[4, first]], [first], sent, sampling, 7)
        tested[first, accepted] += 1
        if accepted:
            bonus[first, token] += 1
        else:
            recovered[token] += 1
    p, q = target_probs(4, Sampling(*warps)), draft_probs(4, warps, SUPPORT)
    drawn = dict(zip(q.tokens.tolist(), q.probs.tolist(), strict=True))
    kept = {token: min(chance, p[token]) for token, chance in drawn.items()}
    lost = {token: chance - kept[token] for token, chance in drawn.items()}
    assert fit(tested, {(t, 1): kept[t] for t in drawn} | {(t, 0): lost[t] for t in drawn}) > PASSES
    left = {token: max(0.0, chance - drawn.get(token, 0.0)) / sum(lost.values()) for token, chance in enumerate(p)}
    assert fit(recovered, left) > PASSES
    after = {
        (t, u): kept[t] / sum(kept.values()) * chance
        for t in drawn
        for u, chance in enumerate(target_probs(t, Sampling(*warps)))
    }
    assert fit(bonus, after) > PASSES


def accept_always(logits, drafted, sent, sampling, position):
    return Outcome(len(drafted), choose(logits[len(drafted)], sampling, position + len(drafted)))


def recover_from_the_target(logits, drafted, sent, sampling, position):
    """Draw what replaces a rejected token from the target's distribution instead of the residual."""
    accepted = verify(logits, drafted, sent, sampling, position).accepted
    return Outcome(accepted, choose(logits[accepted], sampling, position + accepted))


def believe_the_whole_draft(logits, drafted, sent, sampling, position):
    """Test against the draft's whole distribution, though the token was drawn from the truncated one."""
    lasts = [int((row == TARGET).all(-1).nonzero()[0]) for row in logits[: len(drafted)]]
    warps = (sampling.temperature, sampling.top_p, sampling.top_k)
    return verify(logits, drafted, [draft_probs(last, warps, VOCAB) for last in lasts], sampling, position)


def use_one_number_twice(logits, drafted, sent, sampling, position):
    """Draw the recovered token with the luck that the test has just failed with."""
    outcome = verify(logits, drafted, sent, sampling, position)
    if outcome.accepted == len(drafted):
        return outcome
    left = residual(warp(logits[outcome.accepted][None], sampling)[0], sent[outcome.accepted])
    return outcome._replace(token=draw(left, uniform(sampling.seed, ACCEPT_TEST, 0, position + outcome.accepted)))


def use_the_luck_of_the_draft(logits, drafted, sent, sampling, position):
    """Test a drafted token with the number that has drawn it."""
    for row, (token, probs) in enumerate(zip(drafted, sent, strict=True)):
        p = warp(logits[row][None], sampling)[0]
        if not draft_uniform(sampling, position, row) * probs.probability(token) < float(p[token]):
            number = uniform(sampling.seed, TARGET_DRAW, 0, position + row)
            return Outcome(row, draw(residual(p, probs), number))
    return accept_always(logits, drafted, sent, sampling, position)


@pytest.mark.parametrize(
    "rule",
    [accept_always, recover_from_the_target, believe_the_whole_draft, use_one_number_twice, use_the_luck_of_the_draft],
)
@pytest.mark.parametrize("warps", [(1.0, 1.0, 0), (1.7, 0.95, 0)])
def test_wrong_rules_are_caught(rule: Rule, warps: Warps) -> None:
    outputs = [speculate(Sampling(*warps, seed=seed), (2, 1), 2, rule) for seed in range(RUNS)]
    assert fit(Counter(outputs), exact(Sampling(*warps), 2)) < CAUGHT


def judge_by(look: Callable[[SparseProbs, int], float], sampling: Sampling) -> Tokens:
    """Return two output tokens, where the cloud decodes unless the first guess looks likely."""
    sent = draft_probs(0, (sampling.temperature, sampling.top_p, sampling.top_k), SUPPORT)
    likely = look(sent, sent.draw(draft_uniform(sampling, 0, 0))) > sent.probs.mean()
    return speculate(sampling, (int(likely), 1), 2)


def test_windows_may_follow_the_confidence_but_not_the_token_that_was_drawn() -> None:
    samplings = [Sampling(1.0, seed=seed) for seed in range(RUNS)]
    expected = exact(samplings[0], 2)
    by_draw = [judge_by(lambda probs, token: probs.probability(token), sampling) for sampling in samplings]
    by_confidence = [judge_by(lambda probs, token: probs.confidence, sampling) for sampling in samplings]
    assert fit(Counter(by_draw), expected) < CAUGHT
    assert fit(Counter(by_confidence), expected) > PASSES


def judge_by_discarded(sampling: Sampling) -> Tokens:
    """Return two output tokens, where the second is drafted again only if its discarded draft was an even token."""
    drafted, sent = window_of(sampling, 0, 0, 2)
    accepted, token = verify(TARGET[[0, *drafted]], drafted, sent, sampling, 0)
    if accepted:
        return (drafted[0], drafted[1] if accepted == 2 else token)
    again, sent = window_of(sampling, token, 1, 1 - drafted[1] % 2)
    outcome = verify(TARGET[[token, *again]], again, sent, sampling, 1)
    return (token, again[0] if outcome.accepted else outcome.token)


def test_windows_may_follow_discarded_drafts_as_each_round_has_its_own_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    samplings = [Sampling(1.7, seed=seed) for seed in range(2 * RUNS)]
    expected = exact(samplings[0], 2)
    assert fit(Counter(map(judge_by_discarded, samplings)), expected) > PASSES

    def by_position(sampling: Sampling, committed: int, ahead: int) -> float:
        return uniform(sampling.seed, DRAFT_DRAW, 0, committed + ahead)

    monkeypatch.setitem(globals(), "draft_uniform", by_position)
    assert fit(Counter(map(judge_by_discarded, samplings)), expected) < CAUGHT


def test_same_seed_and_windows_give_the_same_text_and_other_windows_another_sample() -> None:
    same = [speculate(Sampling(1.0, seed=3), (2, 0, 4), 40) for _ in range(2)]
    assert same[0] == same[1]
    assert speculate(Sampling(1.0, seed=3), (1,), 40) != same[0]
    assert speculate(Sampling(1.0, seed=4), (2, 0, 4), 40) != same[0]
