"""Who does best in a scenario, and who cannot be told from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsd_gym.comparison.evaluation import OVERALL, Evaluation, Score
from dsd_gym.comparison.statistics import Ratio

UNRANKED = {"oracle": "privileged", "static:best": "in hindsight"}
"""What no deployment could have had is shown, and never called the best."""

NEGLIGIBLE = 0.001
"""A relative difference too small to tell anybody apart, however sure it is."""


@dataclass(frozen=True)
class Place:
    """The best of the ranked controllers by its mean, and those that cannot be told from it."""

    best: str
    ties: tuple[str, ...]

    @property
    def leaders(self) -> tuple[str, ...]:
        """Return the best and its ties."""
        return (self.best, *self.ties)


class Ranking:
    """The places of an evaluation's controllers, in each scenario and over all of them."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.ranked = ranked(evaluation.controllers)
        self._against = {evaluation.reference: evaluation}

    def place(self, scenario: str) -> Place:
        """Return who leads in a scenario, or over those scored by latency (`OVERALL`)."""
        sign = -1.0 if self.score(scenario) == "throughput" else 1.0
        best = min(self.ranked, key=lambda spec: sign * self.evaluation.summaries[scenario, spec].mean)
        others = (spec for spec in self.ranked if spec != best)
        return Place(best, tuple(spec for spec in others if self._ties(scenario, spec, best)))

    def ratio(self, scenario: str, controller: str, to: str) -> Ratio:
        """Return a controller's figure over another's, paired by seed."""
        if to not in self._against:
            self._against[to] = replace(self.evaluation, reference=to)
        return self._against[to].summaries[scenario, controller].ratio

    def score(self, scenario: str) -> Score:
        """Return what a scenario is scored by."""
        return "latency" if scenario == OVERALL else self.evaluation.scores[scenario]

    def _ties(self, scenario: str, controller: str, best: str) -> bool:
        """Return whether the difference to the best is negligible, or its interval has room for none."""
        ratio = self.ratio(scenario, controller, best)
        if abs(ratio.estimate - 1.0) < NEGLIGIBLE:
            return True
        # Comparisons with nan are false: too few seeds tell of no tie.
        return ratio.high >= 1.0 if self.score(scenario) == "throughput" else ratio.low <= 1.0


def ranked(controllers: Sequence[str]) -> list[str]:
    """Return those that may be called the best; all, if that leaves none."""
    return [spec for spec in controllers if spec not in UNRANKED] or list(controllers)
