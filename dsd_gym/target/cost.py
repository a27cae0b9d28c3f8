"""What a pass costs: the smooth fit of its hardware row, or the measured staircase."""

from __future__ import annotations

from typing import Protocol

from dsd_gym.hardware import TargetHardware
from dsd_gym.scenario import TargetClass
from dsd_gym.staircase import StaircaseCost


class IterationCost(Protocol):
    """Ms of one forward pass. A hardware row is one: the smooth fit."""

    @property
    def one_token_iteration_ms(self) -> float:
        """Ms of a pass of one token without context."""
        ...

    def iteration_ms(self, tokens: int, sequences: int, context_tokens: int) -> float:
        """Return the ms of a pass of `tokens` tokens in all, whose `sequences` attend to `context_tokens` in all."""
        ...

    def added_tokens_ms(self, tokens: int, added: int) -> float:
        """Return the extra ms that the last `added` of `tokens` tokens bring to a pass of otherwise equal shape."""
        ...


def iteration_cost(spec: TargetClass, row: TargetHardware) -> IterationCost:
    """Return the latency model that a target's class names; `row` is its own or that of a draft beside it."""
    if spec.latency_model == "smooth":
        return row
    return StaircaseCost(row)
