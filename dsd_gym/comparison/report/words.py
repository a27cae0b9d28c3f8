"""The figures of a comparison in one paragraph: who wins, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dsd_gym.comparison.evaluation import OVERALL, Evaluation
from dsd_gym.comparison.report.ranking import Ranking
from dsd_gym.comparison.statistics import MIN_SEEDS, Ratio
from dsd_gym.comparison.tables import percent, short_names, three_digits


def summary(evaluation: Evaluation) -> str:
    """Return what the comparison found, in sentences."""
    says = _Says(evaluation)
    latency = [name for name, score in evaluation.scores.items() if score == "latency"]
    throughput = [name for name in evaluation.scores if name not in latency]
    sentences = says.latency(latency) if latency else []
    for scenario in throughput:
        sentences += says.throughput(scenario)
    said = " ".join([*sentences, *_doubts(evaluation), _left_behind(evaluation)])
    return said.replace(" %", "\N{NO-BREAK SPACE}%")


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def interval(ratio: Ratio) -> str:
    """Return ` (95 % interval -6.1 to -4.3 %)`, nothing where there is none."""
    if math.isnan(ratio.low):
        return ""
    return f" (95 % interval {percent(ratio.low)} to {percent(ratio.high)} %)"


def difference(ratio: Ratio) -> str:
    """Return `5.2 % less (95 % interval -6.1 to -4.3 %)`."""
    if math.isnan(ratio.estimate):
        return "not comparable"
    size = percent(ratio.estimate)
    if float(size) == 0.0:
        return f"the same to a tenth of a percent{interval(ratio)}"
    return f"{size[1:]} % {'less' if size.startswith('-') else 'more'}{interval(ratio)}"


class _Says:
    """What is said of one scenario, or of all; controllers go by their short names."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._ranking = Ranking(evaluation)
        self._names = short_names(evaluation.controllers)

    def latency(self, scenarios: list[str]) -> list[str]:
        """Return who waits least over all scenarios scored by latency, and how often."""
        where = f"Over the {len(scenarios)} scenarios scored by latency" if len(scenarios) > 1 else f"In {scenarios[0]}"
        best = self._ranking.place(OVERALL).best
        mean = three_digits(self._evaluation.summaries[OVERALL, best].mean)
        of = " (geometric mean)" if len(scenarios) > 1 else ""
        opening = f"{where}, {self._names[best]} has the least normalised latency: {mean} ms per output token{of}"
        sentences = [f"{opening}{self._to_reference(OVERALL, best)}.", *self._rivals(OVERALL, best)]
        return [*sentences, *self._how_often(scenarios, best), *self._to_hindsight(best)]

    def throughput(self, scenario: str) -> list[str]:
        """Return who produces most in one scenario."""
        best = self._ranking.place(scenario).best
        made = three_digits(self._evaluation.summaries[scenario, best].mean)
        opening = f"In {scenario}, scored by throughput, {self._names[best]} has the highest mean: {made} tokens/s"
        return [f"{opening}{self._to_reference(scenario, best)}.", *self._rivals(scenario, best)]

    def _to_reference(self, scenario: str, best: str) -> str:
        reference = self._evaluation.reference
        if best == reference:
            return ", the reference of this page"
        ratio = self._ranking.ratio(scenario, best, reference)
        return f"; against {self._names[reference]} that is {difference(ratio)}"

    def _rivals(self, scenario: str, best: str) -> list[str]:
        """Return who ties with the best, or else how far the next one is."""
        place, ranked = self._ranking.place(scenario), self._ranking.ranked
        if len(ranked) == 1:
            return ["Nothing else was ranked."]
        if place.ties:
            ties = listed([self._names[spec] for spec in place.ties])
            if len(place.leaders) == len(ranked):
                return [f"That is a tie: none of the others ({ties}) can be told from it."]
            return [f"{ties} {'tie' if len(place.ties) > 1 else 'ties'} with it: no difference can be told."]
        sign = 1.0 if self._ranking.score(scenario) == "latency" else -1.0
        mean = {spec: sign * self._evaluation.summaries[scenario, spec].mean for spec in ranked if spec != best}
        next_best = min(mean, key=mean.__getitem__)
        if next_best == self._evaluation.reference:
            return [f"Next is {self._names[next_best]}."]
        ratio = self._ranking.ratio(scenario, next_best, best)
        return [f"Next is {self._names[next_best]}, {difference(ratio)} than it."]

    def _how_often(self, scenarios: list[str], best: str) -> list[str]:
        if len(scenarios) < 2:
            return []
        elsewhere = [name for name in scenarios if best not in self._ranking.place(name).leaders]
        if not elsewhere:
            return ["It leads or ties in each of them."]
        winners = [f"{self._names[self._ranking.place(name).best]} in {name}" for name in elsewhere]
        led = len(scenarios) - len(elsewhere)
        return [f"It leads or ties in {led} of {len(scenarios)} of them; ahead of it: {listed(winners)}."]

    def _to_hindsight(self, best: str) -> list[str]:
        if "static:best" not in self._names or best == "static:best":
            return []
        ratio = self._ranking.ratio(OVERALL, best, "static:best")
        tie = "" if ratio.differs or math.isnan(ratio.low) else ", a tie"
        return [f"Against the best fixed window of each scenario, chosen in hindsight, it is {difference(ratio)}{tie}."]


def _doubts(evaluation: Evaluation) -> list[str]:
    count = len(evaluation.seeds)
    if count >= MIN_SEEDS:
        return []
    seeds = f"{count} seeds" if count > 1 else "one seed"
    return [f"With {seeds} there are no intervals, so small differences may be luck."]


def _left_behind(evaluation: Evaluation) -> str:
    counts = {
        what: sum(evaluation.total(evaluation.scores, spec, what) for spec in evaluation.controllers)
        for what in ("unfinished", "rejected")
    }
    if not any(counts.values()):
        return "No request was left unfinished or rejected."
    said = listed([f"{count:,} {what}" for what, count in counts.items() if count])
    return f"Over all controllers, requests were left behind ({said}); they are charged all the time a run allows."
