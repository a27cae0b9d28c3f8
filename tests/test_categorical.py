"""The choice among windows is torch's own: its figures, its gradients, its frequencies."""

from __future__ import annotations

from collections import Counter

import torch
from torch.distributions import Categorical

from agents.categorical import LogCategorical
from tests.chi_square import PASSES, fit


def logits(rows: int, actions: int = 13) -> torch.Tensor:
    torch.manual_seed(0)
    return (3.0 * torch.randn(rows, actions)).requires_grad_()


def test_log_probability_entropy_and_their_gradients_are_torchs() -> None:
    chosen, found = torch.randint(0, 13, (64,)), []
    for kind in (lambda made: LogCategorical(13).proba_distribution(made), lambda made: Categorical(logits=made)):
        made = logits(64)
        choice = kind(made)
        figures = choice.log_prob(chosen), choice.entropy()
        (figures[0].sum() + 0.7 * (figures[1] ** 2).sum()).backward()
        found.append([*figures, made.grad])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_mode_is_the_likeliest_action() -> None:
    made = logits(64)
    assert torch.equal(LogCategorical(13).proba_distribution(made).mode(), made.argmax(-1))


def test_actions_are_drawn_as_often_as_their_probabilities_say() -> None:
    made = logits(1).detach()
    drawn = LogCategorical(13).proba_distribution(made.expand(40_000, -1)).sample()
    expected = dict(enumerate(made.softmax(-1)[0].tolist()))
    assert fit(Counter(drawn.tolist()), expected) > PASSES


def test_what_cannot_be_is_never_drawn() -> None:
    made = torch.full((10_000, 5), -torch.inf)
    made[:, [1, 3]] = 0.0
    assert set(LogCategorical(5).proba_distribution(made).sample().tolist()) == {1, 3}
