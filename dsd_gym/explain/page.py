"""What was found out about a policy as a page of Markdown: in short, maps, what it heeds, the tree, what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dsd_gym.comparison.statistics import MIN_SEEDS, interval_words
from dsd_gym.comparison.tables import markdown_table, percent
from dsd_gym.comparison.window_map import BATCH_SIZES, RTT_MS
from dsd_gym.config import ConfigError
from dsd_gym.explain import sides
from dsd_gym.explain.crossover import ACCEPTANCES, DRAFT_MS, USUAL_ACCEPTANCE, USUAL_DRAFT_MS, Crossover
from dsd_gym.explain.explanation import Explanation
from dsd_gym.explain.pictures import draw
from dsd_gym.explain.summary import change, summary
from dsd_gym.files import write_atomically
from dsd_gym.observation import FEATURES
from dsd_gym.priced_inputs import ASKED
from dsd_gym.window_tree import NAMES, as_lines

BY_HAND = ("<!-- by hand -->", "<!-- end -->")
"""What stands between these in an earlier page is kept."""


def write_page(found: Explanation, path: Path, with_pictures: bool) -> None:
    """Write the page, its pictures beside it under its name; what was written into an earlier one by hand stays."""
    earlier = kept_by_hand(path.read_text(encoding="utf-8")) if path.is_file() else ""
    pictures = {}
    if with_pictures:
        prefix = "" if path.stem == "explain" else f"{path.stem}_"
        pictures = draw(found.evaluation.window_maps, found.importances, path.parent, prefix)
    try:
        write_atomically(path, page(found, pictures, earlier))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def page(found: Explanation, pictures: Mapping[str, str], by_hand: str = "") -> str:
    """Return the page; `pictures` ({what: file name}) lie beside it, and `by_hand` comes first."""
    name = Path(found.policy).stem
    titles = {"window_map": "Windows chosen", "importance": "What the policy heeds"}
    shown = {key: f"\n\n![{title}]({pictures[key]})" if key in pictures else "" for key, title in titles.items()}
    parts = [
        f"# What {name} has learned",
        _how(found),
        *([f"{BY_HAND[0]}\n{by_hand}\n{BY_HAND[1]}"] if by_hand else []),
        f"## In short\n\n{summary(found)}",
        f"## The window over round trip, acceptance and load{shown['window_map']}",
        _crossovers(found),
        f"## Edge or cloud\n\n{_sides_words()}\n\n{markdown(sides.table(found.sides))}",
        f"## What it heeds\n\n{_importance_words(found)}{shown['importance']}\n\n{_importance_table(found)}",
        f"## The policy as a tree\n\n{_tree_words(found)}\n\n```\n{_tree(found)}\n```{_estimates(found)}",
        f"## What the tree costs\n\n{markdown_table(found.evaluation)}",
    ]
    return "\n\n".join(parts).rstrip() + "\n"


def kept_by_hand(text: str) -> str:
    """Return what was written by hand into an earlier page."""
    _, begin, rest = text.partition(BY_HAND[0])
    inside, end, _ = rest.partition(BY_HAND[1])
    return inside.strip() if begin and end else ""


def _how(found: Explanation) -> str:
    scenarios, seeds = ", ".join(found.evaluation.scores), len(found.evaluation.seeds)
    return (
        f"`{found.command}`\n\nMeasured in {scenarios}; {seeds} seed{'s' * (seeds != 1)}, the same luck for all. "
        f"Losses are changes of normalised latency (ms per output token) against the policy itself: geometric means "
        f"over the scenarios scored by it{f', with {interval_words(seeds)}' if seeds >= MIN_SEEDS else ''}."
    )


def _crossovers(found: Explanation) -> str:
    near = (
        f"Maps and tables show a request at the edge, but for the second table. Cells: the window at a round trip of "
        f"{RTT_MS[0]:g} ms, and the round trip from which on the cloud decodes."
    )
    usual = f"At {USUAL_DRAFT_MS:g} ms a draft token:", f"At acceptance {USUAL_ACCEPTANCE:g}:"
    by_acceptance = _crossover_table(found, "acceptance", ACCEPTANCES, lambda a: (a, USUAL_DRAFT_MS))
    in_cloud = _crossover_table(found, "acceptance", ACCEPTANCES, lambda a: (a, USUAL_DRAFT_MS), cloud_mode=True)
    by_speed = _crossover_table(found, "draft ms/token", DRAFT_MS, lambda ms: (USUAL_ACCEPTANCE, ms))
    back = "The same for a request that the cloud decodes, and that would come back at shorter round trips:"
    return "\n\n".join([near, usual[0], by_acceptance, back, in_cloud, usual[1], by_speed])


def _crossover_table(
    found: Explanation,
    title: str,
    keys: Sequence[float],
    place: Callable[[float], tuple[float, float]],
    cloud_mode: bool = False,
) -> str:
    """Return a table with a row for each of `keys`, which `place` makes (acceptance, draft ms) of."""
    head = [title, *(f"{Path(spec).stem}, batch of {batch}" for spec in found.crossovers for batch in BATCH_SIZES)]
    at = {
        (spec, c.batch_size, c.acceptance, c.draft_ms): crossing(c)
        for spec, crossovers in found.crossovers.items()
        for c in crossovers
        if c.cloud_mode == cloud_mode
    }
    body = [
        [f"{key:g}", *(at[spec, batch, *place(key)] for spec in found.crossovers for batch in BATCH_SIZES)]
        for key in keys
    ]
    return markdown([head, *body])


def crossing(place: Crossover) -> str:
    """Return `6, cloud from 52 ms`."""
    if place.cloud_from_ms == 0.0:
        return "cloud"
    if math.isinf(place.cloud_from_ms):
        return f"{place.near or 'cloud'}, edge up to {RTT_MS[-1]:g} ms"
    return f"{place.near or 'cloud'}, cloud from {place.cloud_from_ms:g} ms"


def _sides_words() -> str:
    return (
        "Share of decisions for the cloud in the policy's own runs, by what the cloud is expected to cost over what "
        "the best window is (`dsd_gym/pricing.py`, others' delay charged three times), and by where the request is: "
        "at the edge with a window behind it, before its first window, or decoded by the cloud."
    )


def _importance_words(found: Explanation) -> str:
    return (
        "Every decision sees some features as they were at another decision, drawn from all scenarios; the rest is as "
        "it is. What features say together may be made up for by the others when one alone is replaced, so groups come "
        "first. This also parts features that go together in nature: a loss shows what the policy leans on, not what "
        "it could do without if trained anew. What is there or not (a confidence, a last round) stays so, unless the "
        "flag that says it is among what is replaced."
    )


def _importance_table(found: Explanation) -> str:
    rows = [["replaced", "decisions that change", "normalised latency"]]
    for one in found.importances:
        name = f"**{one.name}** ({', '.join(one.features)})" if one.is_group else one.name
        rows.append([name, f"{100.0 * one.changed:.1f} %", change(one.latency)])
    return markdown(rows)


def _tree_words(found: Explanation) -> str:
    best = min(found.trials, key=lambda trial: trial.latency)
    return (
        f"{found.tree.leaves} leaves, fitted to the policy's answers on {best.rows:,} observations of "
        f"{found.fitted_cells} deployments of `{found.fitted_in}`, with luck of their own: those that the policy meets "
        f"and, in later rounds, those that the trees before met. Its latency there is {percent(best.latency)} % off "
        f"the policy's. In the scenarios above {100.0 * found.agreement:.0f} % of its decisions are the policy's, "
        f"{100.0 * found.agreement_within_one:.0f} % within one token of window; the shares below are of those "
        f"decisions. As a policy file: `{Path(found.tree_spec).name}`."
    )


def _tree(found: Explanation) -> str:
    return "\n".join(as_lines(found.tree, found.shares))


def _estimates(found: Explanation) -> str:
    """Return what the tree asks about that is no feature, explained; nothing if there is none."""
    places = sorted({place for place in found.tree.feature if place >= len(FEATURES)})
    told = "\n".join(f"* `{NAMES[place]}`: {ASKED[NAMES[place]].meaning}" for place in places)
    return f"\n\nBy the analytic estimate (`dsd_gym/pricing.py`):\n\n{told}" if told else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table: a head, then rows; all columns but the first to the right."""
    rule = ["---", *["--:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])
