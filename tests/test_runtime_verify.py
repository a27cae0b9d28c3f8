"""What verification does with one window: acceptance, the token after it, and what it refuses."""

import numpy as np
import pytest
import torch

import runtime.verify
from runtime.messages import Refused, Sampling
from runtime.sampling import SparseProbs, draft_uniform
from runtime.verify import choose, residual, verify, verify_greedy

torch.set_num_threads(1)

VOCAB = 9
TARGET = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0))


def test_equal_distributions_accept_everything() -> None:
    weights = np.array([8, 4, 2, 1, 1], np.uint16)
    probs = SparseProbs(np.array([3, 0, 2, 4, 1], np.uint32), weights)
    logits = torch.full((6, 5), -torch.inf)
    logits[:, probs.tokens.astype(int)] = torch.tensor(np.log2(weights)).float() * torch.log(torch.tensor(2.0))
    for seed in range(300):
        sampling = Sampling(1.0, seed=seed)
        drafted = [probs.draw(draft_uniform(sampling, 0, ahead)) for ahead in range(5)]
        assert verify(logits, drafted, [probs] * 5, sampling, 0).accepted == 5


def test_a_residual_that_rounding_has_emptied_is_the_target_itself() -> None:
    probs = SparseProbs(np.array([2, 0], np.uint32), np.array([3, 1], np.uint16))
    target = torch.tensor([0.25, 0.0, 0.75 - 1e-16], dtype=torch.float64)
    assert torch.equal(residual(target, probs), target)
    target = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert residual(target, probs).tolist() == [0.25, 0.25, 0.0]


def test_what_the_target_cannot_say_is_always_rejected_and_replaced() -> None:
    sure = SparseProbs(np.array([1], np.uint32), np.array([1], np.uint16))
    for seed in range(50):
        outcome = verify(TARGET[[0, 1]], [1], [sure], Sampling(1.0, 1.0, top_k=1, seed=seed), 0)
        assert outcome == (0, int(TARGET[0].argmax()))


@pytest.mark.parametrize(
    ("drafted", "sent", "complaint"),
    [
        ([5], 1, "drafted token 1 of 1: 5 is not in its own distribution"),
        ([1, 1, 5], 3, "drafted token 3 of 3: 5 is not"),
        ([1, 1], 1, "1 distributions for 2 drafted tokens"),
        ([1], None, "0 distributions for 1 drafted tokens"),
    ],
)
def test_a_token_that_cannot_have_been_drawn_is_refused(drafted: list[int], sent: int | None, complaint: str) -> None:
    probs = SparseProbs(np.array([1, 2], np.uint32), np.array([9, 1], np.uint16))
    with pytest.raises(Refused, match=complaint):
        verify(TARGET[: len(drafted) + 1], drafted, sent and [probs] * sent, Sampling(1.0), 0)


def test_rows_after_the_first_rejection_are_not_looked_at() -> None:
    sure = SparseProbs(np.array([1], np.uint32), np.array([1], np.uint16))
    logits = torch.cat([TARGET[:1].index_fill(1, torch.tensor([1]), -torch.inf), torch.full((2, VOCAB), torch.nan)])
    assert verify(logits, [1, 1], [sure, sure], Sampling(1.0), 0).accepted == 0
    with pytest.raises(ValueError, match="not finite"):
        choose(logits[1], Sampling(1.0), 0)


def test_an_empty_window_is_a_choice_of_the_targets_own() -> None:
    for sampling in (Sampling(), Sampling(0.8, seed=1), Sampling(1.5, 0.9, 4, seed=2)):
        for position in range(30):
            expected = (0, choose(TARGET[3], sampling, position))
            assert verify(TARGET[3:4], [], [], sampling, position) == expected
            assert verify(TARGET[3:4], [], None, sampling, position) == expected


def test_greedy_accepts_the_longest_agreeing_run_and_takes_the_lowest_of_equal_logits() -> None:
    for accepted in range(4):
        drafted = [5, 6, 7]
        choices = [5, 6, 7, 8]
        choices[accepted] = 1
        assert verify_greedy(choices, drafted) == (accepted, 1)
        logits = torch.zeros(4, VOCAB)
        logits[range(4), choices] = 1.0
        logits[:, 8] = 1.0
        assert verify(logits, drafted, None, Sampling(), 0) == (accepted, 1)
        assert choose(logits[accepted], Sampling(), 0) == 1


def test_greedy_looks_at_no_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(runtime.verify, "warp")
    assert verify(TARGET[:2], [0], None, Sampling(), 0).accepted in (0, 1)
