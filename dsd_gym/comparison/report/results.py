"""The tables of the whole comparison: a row a scenario, a column a controller, the best and its ties marked."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dsd_gym.comparison.evaluation import OVERALL, Evaluation, Score, Summary
from dsd_gym.comparison.report.markup import Html, element, joined, table
from dsd_gym.comparison.report.ranking import NEGLIGIBLE, UNRANKED, Ranking
from dsd_gym.comparison.statistics import MIN_SEEDS, Ratio
from dsd_gym.comparison.tables import heading, percent, scores_of, short_names, three_digits


def results(evaluation: Evaluation) -> Html:
    """Return one table for each kind of score, and how to read them."""
    ranking = Ranking(evaluation)
    tables = (_table(ranking, score) for score in scores_of(evaluation))
    return joined([*tables, element("p", _legend(evaluation), class_="note")])


def controller_heads(evaluation: Evaluation, scope: str) -> dict[str, Html]:
    """Return the head cell of each controller: its short name, the whole spec on hover, and what it is."""
    names = short_names(evaluation.controllers)
    return {
        spec: element(
            "th", element("span", names[spec], class_="name"), *_role(evaluation, spec), scope=scope, title=spec
        )
        for spec in evaluation.controllers
    }


def mark_of(ranking: Ranking, scenario: str, controller: str) -> str | None:
    """Return `best`, `tie` or None."""
    place = ranking.place(scenario)
    return "best" if controller == place.best else "tie" if controller in place.ties else None


def headline(ranking: Ranking, scenario: str, controller: str) -> list[Html]:
    """Return what a scenario is scored by, with its badge and its difference to the reference."""
    summary = ranking.evaluation.summaries[scenario, controller]
    mark = mark_of(ranking, scenario, controller)
    badge = [element("span", mark, class_="badge")] if mark else []
    figure = element("span", element("b", three_digits(summary.mean)), *badge, class_="figure")
    return [figure] if controller == ranking.evaluation.reference else [figure, *_change(summary.ratio)]


def _change(ratio: Ratio) -> list[Html]:
    """Return the difference to the reference and, where there is one, its interval."""
    lines = [element("span", f"{percent(ratio.estimate)} %", class_="change")]
    if math.isnan(ratio.low):
        return lines
    return [*lines, element("span", f"[{percent(ratio.low)}, {percent(ratio.high)}]", class_="interval")]


def _role(evaluation: Evaluation, spec: str) -> Iterable[Html]:
    roles = ["reference"] if spec == evaluation.reference else []
    roles += [UNRANKED[spec]] if spec in UNRANKED else []
    return (element("span", role, class_="role") for role in roles)


def _table(ranking: Ranking, score: Score) -> Html:
    evaluation = ranking.evaluation
    scenarios = [name for name, of in evaluation.scores.items() if of == score]
    head = [element("th", "scenario", scope="col"), *controller_heads(evaluation, "col").values()]
    links = {name: f"#{anchor(evaluation, name)}" for name in scenarios}
    body = [
        [
            _scenario_head(name, links.get(name)),
            *(_cell(ranking, name, spec) for spec in evaluation.controllers),
        ]
        for name in scenarios + ([OVERALL] if score == "latency" and len(scenarios) > 1 else [])
    ]
    return table(heading(evaluation, score), head, body)


def _scenario_head(name: str, link: str | None) -> Html:
    return element("th", element("a" if link else "span", name, href=link, class_="name"), scope="row")


def anchor(evaluation: Evaluation, scenario: str) -> str:
    """Return the id of a scenario's section, whatever characters its name has."""
    return f"scenario-{list(evaluation.scores).index(scenario) + 1}"


def _cell(ranking: Ranking, scenario: str, controller: str) -> Html:
    evaluation = ranking.evaluation
    summary = evaluation.summaries[scenario, controller]
    lines = [*headline(ranking, scenario, controller), *_details(evaluation, summary)]
    return element("td", *lines, class_=mark_of(ranking, scenario, controller))


def _details(evaluation: Evaluation, summary: Summary) -> list[Html]:
    """Return the window of a sweep, goodput, and what was left behind."""
    said = [f"window {summary.window}"] if summary.window is not None else []
    if summary.metric == "throughput_tokens_s":
        good = evaluation.mean(summary.scenario, summary.controller, "goodput_requests_s")
        said.append(f"{three_digits(good)} req/s")
    if summary.scenario != OVERALL:
        said += [
            f"{count:,} {what}"
            for count, what in ((summary.unfinished, "unfinished"), (summary.rejected, "rejected"))
            if count
        ]
    return [element("span", text, class_="detail") for text in said]


def _legend(evaluation: Evaluation) -> str:
    unranked = [f"{spec} ({why})" for spec, why in UNRANKED.items() if spec in evaluation.controllers]
    tie = f"; tie: its difference to the best is under {NEGLIGIBLE:.1%}"
    if len(evaluation.seeds) >= MIN_SEEDS:
        tie += ", or the 95 % interval of the difference includes zero"
    shown = f" Shown but not ranked: {', '.join(unranked)}." if unranked else ""
    return f"best: the best mean of the row{tie}.{shown}"
