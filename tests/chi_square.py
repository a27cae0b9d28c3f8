"""Whether counted outcomes follow exact probabilities."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from scipy import stats

PASSES = 1e-4
"""Seeds are fixed, so a test of what is right passes always or never; by luck it would fail one time in 10,000."""
CAUGHT = 1e-6
"""What is wrong on purpose must be this unlikely in the same test: it shows that the test can fail."""
FEWEST = 5.0


def fit(found: Counter[Any], expected: Mapping[Any, float]) -> float:
    """Return the p-value of a chi-square test; outcomes expected less than `FEWEST` times are counted as one.

    0 where something was found that cannot be. At least two outcomes must remain.
    """
    runs = found.total()
    if any(expected.get(outcome, 0.0) <= 0.0 for outcome in found):
        return 0.0
    common = [outcome for outcome, chance in expected.items() if chance * runs >= FEWEST]
    counts = [float(found[outcome]) for outcome in common]
    hoped = [expected[outcome] * runs for outcome in common]
    counts.append(runs - sum(counts))
    hoped.append(runs - sum(hoped))
    if hoped[-1] < FEWEST:  # too few even together: they join the least of the others
        least = hoped.index(min(hoped[:-1]))
        counts[least] += counts.pop()
        hoped[least] += hoped.pop()
    assert len(counts) > 1, "nothing to test: only one outcome is likely enough"
    return float(stats.chisquare(counts, hoped).pvalue)


def marginal(expected: Mapping[tuple[Hashable, ...], float], *places: int) -> dict[Any, float]:
    """Return the probabilities of what stands at `places` of the outcomes."""
    sums: Counter[Any] = Counter()
    for outcome, chance in expected.items():
        sums[tuple(outcome[place] for place in places)] += chance  # type: ignore[assignment]
    return dict(sums)
