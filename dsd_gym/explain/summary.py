"""A page's figures in a few sentences, each of them derived from the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dsd_gym.comparison.evaluation import OVERALL
from dsd_gym.comparison.statistics import Ratio
from dsd_gym.comparison.tables import percent
from dsd_gym.explain.crossover import USUAL_ACCEPTANCE, USUAL_DRAFT_MS, Crossover
from dsd_gym.explain.explanation import RIVAL, Explanation
from dsd_gym.explain.importance import Importance

MATTERS = 0.02
"""A loss from which on a feature is said to matter."""


def summary(found: Explanation) -> str:
    """Return what a reader in a hurry should take away, as a list."""
    sentences = (_heeds(found), _ignores(found), _misreads(found), _crosses(found), _tree(found))
    return "\n".join(f"* {sentence}" for sentence in sentences if sentence)


def _heeds(found: Explanation) -> str:
    most = [one for one in found.importances if one.is_group and matters(one)]
    alone = [one for one in found.importances if not one.is_group and matters(one)]
    if not most and not alone:
        return f"Replacing any features costs less than {100.0 * MATTERS:.0f} %."
    said = [_costs(one) for one in most] + [f"{_costs(one)} alone" for one in alone[:3]]
    return f"It leans on what costs it latency when replaced: {', '.join(said)}."


def _costs(one: Importance) -> str:
    return f"{one.name if one.is_group else f'`{one.name}`'} {change(one.latency)}"


def matters(one: Importance) -> bool:
    """Return whether replacing costs `MATTERS` or more, and surely something."""
    return one.latency.estimate >= 1.0 + MATTERS and not one.latency.low <= 1.0


def _ignores(found: Explanation) -> str:
    idle = [f"`{one.name}`" for one in found.importances if not one.is_group and one.changed < 0.01]
    cheap = [
        f"`{one.name}`"
        for one in found.importances
        if not one.is_group and one.changed >= 0.01 and abs(one.latency.estimate - 1.0) < 0.005
    ]
    said = [f"less than 1 % of decisions change with {', '.join(idle)}"] if idle else []
    said += [f"decisions change but latency moves by less than 0.5 % with {', '.join(cheap)}"] if cheap else []
    return f"Of features replaced alone, {'; '.join(said)}." if said else "Every feature moves decisions and latency."


def _misreads(found: Explanation) -> str:
    said = misread(found.importances)
    return f"In these deployments it would do better without what it makes of {said}." if said else ""


def misread(importances: Sequence[Importance]) -> str:
    """Return what surely does harm: latency falls by half a percent or more when it is replaced."""
    return ", ".join(_costs(one) for one in importances if one.latency.high < 1.0 and one.latency.estimate <= 0.995)


def _crosses(found: Explanation) -> str:
    said = []
    for spec, places in found.crossovers.items():
        usual = [c for c in places if (c.acceptance, c.draft_ms) == (USUAL_ACCEPTANCE, USUAL_DRAFT_MS)]
        edge, cloud = ([c for c in usual if c.cloud_mode == mode] for mode in (False, True))
        name = Path(spec).stem if spec.endswith(".safetensors") else spec
        back = ", ".join(crossing_point(c) for c in cloud)
        said.append(f"{name} {', '.join(f'{crossing_point(c)} at a batch of {c.batch_size}' for c in edge)} ({back})")
    return (
        f"At acceptance {USUAL_ACCEPTANCE:g} and {USUAL_DRAFT_MS:g} ms a draft token the cloud takes a request over "
        f"from a round trip of, and (in brackets) keeps one that it decodes from: {'; '.join(said)}."
    )


def crossing_point(place: Crossover) -> str:
    """Return the round trip from which on the cloud decodes, in words."""
    if place.cloud_from_ms == 0.0:
        return "any length"
    return "none" if math.isinf(place.cloud_from_ms) else f"{place.cloud_from_ms:g} ms"


def _tree(found: Explanation) -> str:
    summaries = found.evaluation.summaries
    tree, rival = summaries[OVERALL, found.tree_spec].ratio, summaries[OVERALL, RIVAL].ratio
    return (
        f"A tree of {found.tree.leaves} leaves takes {100.0 * found.agreement:.0f} % of its decisions as the policy "
        f"would and changes latency by {change(tree)}; `{RIVAL}`, for comparison, by {change(rival)}."
    )


def change(ratio: Ratio) -> str:
    """Return `+5.2 % [+4.1, +6.3]`."""
    interval = "" if math.isnan(ratio.low) else f" [{percent(ratio.low)}, {percent(ratio.high)}]"
    return f"{percent(ratio.estimate)} %{interval}"
