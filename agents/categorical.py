"""A choice among windows, as stable-baselines3 wants it, with one softmax where torch's own takes three passes."""

from __future__ import annotations

import torch
from stable_baselines3.common.distributions import CategoricalDistribution


class LogCategorical(CategoricalDistribution):
    """`CategoricalDistribution` on the logarithms of the probabilities: the same figures and gradients, sooner."""

    _logits: torch.Tensor
    _logs: torch.Tensor

    def proba_distribution(self, action_logits: torch.Tensor) -> LogCategorical:
        """Choose according to logits of shape (n, actions)."""
        self._logits = action_logits
        columns = action_logits.t().contiguous()  # torch has vector instructions along these, not along short rows
        self._logs = torch.log_softmax(columns, 0).t()
        return self

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of each action, (n,)."""
        return self._logs.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> torch.Tensor:
        """Return the entropy of each row in nats, (n,)."""
        return -(self._logs.exp() * self._logs).sum(-1)

    def sample(self) -> torch.Tensor:
        """Return an action drawn for each row, (n,)."""
        sums = self._logs.exp().cumsum(-1)
        drawn = torch.rand(len(sums), 1) * sums[:, -1:]
        return (sums[:, :-1] <= drawn).sum(-1)

    def mode(self) -> torch.Tensor:
        """Return the likeliest action of each row, (n,)."""
        return self._logits.argmax(-1)
