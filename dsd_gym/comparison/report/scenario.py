"""The section of one scenario: what it is, what came of it, its pictures and its config."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from dsd_gym.comparison.evaluation import SCORE_METRIC, Evaluation
from dsd_gym.comparison.report.deployment import key_figures
from dsd_gym.comparison.report.markup import Html, definitions, element, table
from dsd_gym.comparison.report.ranking import Ranking
from dsd_gym.comparison.report.results import anchor, controller_heads, headline, mark_of
from dsd_gym.comparison.report.settings import other_settings
from dsd_gym.comparison.tables import three_digits
from dsd_gym.config import ConfigError, build, dump_yaml
from dsd_gym.scenario import Scenario

NOT_RECORDED = "Not recorded in this evaluation.json, which an earlier version wrote."


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100.0 * share:.1f}"


METRICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "normalised_latency_ms": ("normalised latency", "ms/token", three_digits),
    "ttft_ms": ("TTFT mean", "ms", three_digits),
    "ttft_ms_p95": ("TTFT p95", "ms", three_digits),
    "tpot_ms": ("TPOT mean", "ms", three_digits),
    "tpot_ms_p50": ("TPOT p50", "ms", three_digits),
    "tpot_ms_p95": ("TPOT p95", "ms", three_digits),
    "tpot_ms_p99": ("TPOT p99", "ms", three_digits),
    "throughput_tokens_s": ("throughput", "tokens/s", three_digits),
    "goodput_requests_s": ("goodput", "requests/s", three_digits),
    "acceptance_rate": ("acceptance rate", "%", _percent),
    "mean_window": ("mean window", "tokens", three_digits),
    "cloud_share": ("cloud share", "% of tokens", _percent),
    "target_utilisation": ("target utilisation", "%", _percent),
}
"""What the table of a scenario shows: the metric's heading, its unit, and how it is written."""

Config = dict[str, Any] | None
COUNTS = ("unfinished", "rejected")


def scenario_section(ranking: Ranking, scenario: str, pictures: Iterable[Html]) -> Html:
    """Return the whole section of a scenario."""
    evaluation = ranking.evaluation
    config = evaluation.configs.get(scenario)
    return element(
        "section",
        element("h3", scenario),
        *_description(config),
        *_key_figures(config),
        _metrics(ranking, scenario),
        *_best_window(evaluation, scenario),
        element("div", *pictures, class_="pictures"),
        *_config(config),
        id=anchor(evaluation, scenario),
    )


def _description(config: Config) -> list[Html]:
    described = str((config or {}).get("description", ""))
    return [element("p", described)] if described else []


def _key_figures(config: Config) -> list[Html]:
    """Return the figures, none where the config is not there or of another version of `Scenario`."""
    if config is None:
        return []
    try:
        figures = key_figures(build(Scenario, config, source=""))
    except ConfigError:
        return []
    others = other_settings(config)
    return [definitions([*figures, ("Also set", "; ".join(others))] if others else figures)]


def _metrics(ranking: Ranking, scenario: str) -> Html:
    """Return the table of all metrics, what the scenario is scored by first."""
    evaluation = ranking.evaluation
    score = SCORE_METRIC[evaluation.scores[scenario]]
    metrics = sorted(METRICS, key=lambda metric: metric != score)
    head = [
        element("th", "controller", scope="col"),
        *(_column(*METRICS[metric][:2]) for metric in metrics),
        *(_column(what, "requests") for what in COUNTS),
    ]
    body = [
        [row_head, _score(ranking, scenario, spec), *_figures(evaluation, scenario, spec, metrics[1:])]
        for spec, row_head in controller_heads(evaluation, "row").items()
    ]
    seeds = len(evaluation.seeds)
    scored = evaluation.total([scenario], evaluation.reference, "scored_requests")
    means = f"means of {seeds} seeds" if seeds > 1 else "one seed"
    return table(f"{scenario}: {means}, {scored:,} requests scored in all", head, body)


def _column(heading: str, unit: str) -> Html:
    return element("th", heading, element("span", unit, class_="role"), scope="col")


def _score(ranking: Ranking, scenario: str, controller: str) -> Html:
    return element("td", *headline(ranking, scenario, controller), class_=mark_of(ranking, scenario, controller))


def _figures(evaluation: Evaluation, scenario: str, controller: str, metrics: Iterable[str]) -> Iterable[Html]:
    for metric in metrics:
        _, _, written = METRICS[metric]
        yield element("td", written(evaluation.mean(scenario, controller, metric)))
    for count in COUNTS:
        yield element("td", f"{evaluation.total([scenario], controller, count):,}")


def _best_window(evaluation: Evaluation, scenario: str) -> list[Html]:
    if "static:best" not in evaluation.controllers:
        return []
    window = evaluation.summaries[scenario, "static:best"].window
    cloud = ", that is, the cloud decodes" if window == 0 else ""
    return [element("p", f"Best fixed window in hindsight (static:best): {window}{cloud}.")]


def _config(config: Config) -> list[Html]:
    if config is None:
        return [element("p", f"Config: {NOT_RECORDED}", class_="note")]
    written = element("pre", element("code", dump_yaml(config)), tabindex="0")
    return [element("details", element("summary", "Resolved config"), written)]
