import math
from dataclasses import replace

import pytest

from dsd_gym.comparison.evaluation import OVERALL
from dsd_gym.comparison.report.deployment import key_figures
from dsd_gym.comparison.report.markup import Html, element
from dsd_gym.comparison.report.ranking import Ranking
from dsd_gym.comparison.report.settings import other_settings
from dsd_gym.comparison.report.words import difference, listed, summary
from dsd_gym.comparison.statistics import Ratio
from dsd_gym.config import build, to_dict
from dsd_gym.scenario import EdgeClass, LinkSpec, Piece, Scenario, TargetClass, Workload
from dsd_gym.scenario_files import load_scenarios
from tests.report_pages import chosen

NOISE = [1.0, 1.02, 0.98, 1.01, 0.99]
BASE = [10.0, 12.0, 9.0, 11.0, 10.0]


def times(factor: float, noise: list[float] | None = None) -> list[float]:
    """Return `BASE` times a factor, and noise that goes up and down around it."""
    return [factor * base * wobble for base, wobble in zip(BASE, noise or [1.0] * len(BASE), strict=True)]


SURE = {"a": times(1.0), "b": times(0.8, NOISE), "c": times(0.9, NOISE)}
TIED = {"a": times(1.0), "b": times(0.8), "c": times(0.803, NOISE), "d": times(1.3)}


def test_the_best_is_the_least_latency_and_the_most_throughput() -> None:
    assert Ranking(chosen({"s": SURE})).place("s").leaders == ("b",)
    assert Ranking(chosen({"s": SURE}, "throughput")).place("s").leaders == ("a",)


def test_a_tie_is_whoever_the_interval_does_not_set_apart() -> None:
    assert Ranking(chosen({"s": TIED})).place("s").leaders == ("b", "c")
    more = {name: [1.0 / value for value in values] for name, values in TIED.items()}
    assert set(Ranking(chosen({"s": more}, "throughput")).place("s").leaders) == {"b", "c"}
    same = {"a": times(1.0), "b": times(1.0005), "c": times(1.002)}
    assert Ranking(chosen({"s": same})).place("s").leaders == ("a", "b")


def test_few_seeds_tell_of_no_tie_but_near_equality() -> None:
    few = {name: values[:3] for name, values in TIED.items()} | {"e": TIED["b"][:3]}
    assert Ranking(chosen({"s": few})).place("s").leaders == ("b", "e")
    assert "With 3 seeds there are no intervals" in summary(chosen({"s": few}))
    assert "interval" not in summary(chosen({"s": TIED})).partition("no intervals")[2]


def test_what_no_deployment_could_have_is_never_the_best() -> None:
    privileged = {"a": times(1.0), "b": times(0.9), "oracle": times(0.5), "static:best": times(0.6)}
    ranking = Ranking(chosen({"s": privileged}))
    assert ranking.ranked == ["a", "b"] and ranking.place("s").best == "b"
    assert "it is 50.0\N{NO-BREAK SPACE}% more" in summary(chosen({"s": privileged}))
    assert Ranking(chosen({"s": {"oracle": times(1.0)}}, reference="oracle")).place("s").best == "oracle"


def test_the_summary_says_who_wins_by_how_much_and_how_sure() -> None:
    said = summary(chosen({"s": SURE, "t": SURE})).replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("Over the 2 scenarios scored by latency, b has the least normalised latency: ")
    ratio = Ranking(chosen({"s": SURE, "t": SURE})).ratio(OVERALL, "b", "a")
    assert ratio.estimate == pytest.approx(0.8 * math.prod(NOISE) ** 0.2) and ratio.differs
    percents = [f"{100.0 * (bound - 1.0):+.1f}" for bound in ratio]
    expected = f"against a that is {percents[0][1:]} % less (95 % interval {percents[1]} to {percents[2]} %)"
    assert expected in said
    assert "Next is c, 12.5 % more" in said and "It leads or ties in each of them." in said
    assert said.endswith("No request was left unfinished or rejected.")


def test_the_summary_says_ties_as_ties() -> None:
    assert "c ties with it: no difference can be told." in summary(chosen({"s": TIED}))
    both = chosen({"s": {"a": times(1.0), "b": times(1.001, NOISE)}})
    assert "That is a tie: none of the others (b) can be told from it." in summary(both)


def test_the_summary_says_where_another_is_ahead_and_what_was_left_behind() -> None:
    evaluation = chosen({"s": {"a": times(1.0), "b": times(0.5)}, "t": {"a": times(1.0), "b": times(1.1)}})
    assert "It leads or ties in 1 of 2 of them; ahead of it: a in t." in summary(evaluation)
    first, *rest = evaluation.rows
    left = replace(first, metrics=first.metrics | {"unfinished": 1200.0, "rejected": 3.0})
    assert "(1,200 unfinished and 3 rejected)" in summary(replace(evaluation, rows=(left, *rest)))


def test_one_controller_alone_is_told_as_such() -> None:
    assert "the reference of this page. Nothing else was ranked." in summary(chosen({"s": {"a": times(1.0)}}))


def test_throughput_is_told_for_each_scenario() -> None:
    said = summary(chosen({"flood": SURE}, "throughput")).replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("In flood, scored by throughput, a has the highest mean: 10.4 tokens/s, the reference")
    assert "Next is c, 10.0 % less" in said


def test_differences_in_words() -> None:
    assert difference(Ratio(0.9, 0.85, 0.95)) == "10.0 % less (95 % interval -15.0 to -5.0 %)"
    assert difference(Ratio(2.5, math.nan, math.nan)) == "150 % more"
    assert difference(Ratio(0.9999, math.nan, math.nan)) == "the same to a tenth of a percent"
    assert difference(Ratio(math.nan, math.nan, math.nan)) == "not comparable"
    assert [listed(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_elements_escape_text_and_attributes_but_not_html() -> None:
    made = element("p", "<&", Html("<b>x</b>"), class_='"q"', aria_label="<", title=None)
    assert made == '<p class="&quot;q&quot;" aria-label="&lt;">&lt;&amp;<b>x</b></p>'


@pytest.mark.parametrize("scenario", load_scenarios(["held_out"], {}), ids=lambda scenario: scenario.name)
def test_every_scenario_has_key_figures(scenario: Scenario) -> None:
    figures = dict(key_figures(scenario))
    assert all(figures.values()) and not any("None" in said for said in figures.values())
    assert f"{scenario.edges[0].count:,} x {scenario.edges[0].hardware}" in figures["Edge devices"]
    assert all(target.model in figures["Targets"] for target in scenario.targets)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (Workload("bursty", rate_per_s=2.0), "bursty (coefficient of variation 3), 2 requests/s"),
        (Workload("diurnal", load=0.5), "a sine of ±50% every 30 s around 0.5 of what the targets carry"),
        (Workload("closed", users=3, think_ms=500.0), "3 users who think 0.5 s between requests"),
        (Workload("piecewise", load=0.1, pieces=(Piece(1000.0, 5.0),)), "in pieces (1 s at 5 x the base rate)"),
        (Workload("trace", trace="a.csv", rate_scale=2.0), "arrivals and lengths of a.csv, at 2 times its speed"),
    ],
)
def test_every_kind_of_load_has_words(workload: Workload, said: str) -> None:
    assert said in dict(key_figures(Scenario(workload=workload)))["Load"]


def test_settings_beyond_the_key_figures_are_listed() -> None:
    scenario = Scenario(
        edges=(EdgeClass(count=3), EdgeClass(prefill_ms_per_token=2.0, link=LinkSpec(rtt_ms=9.0, jitter_slot_ms=7.0))),
        targets=(TargetClass(host_ms=1.5),),
        router="random",
    )
    expected = ["edges.1.prefill_ms_per_token: 2.0", "edges.1.link.jitter_slot_ms: 7.0", "targets.0.host_ms: 1.5"]
    assert other_settings(to_dict(scenario)) == expected
    assert other_settings(to_dict(Scenario(name="x", horizon_ms=9000.0))) == []
    assert build(Scenario, to_dict(scenario), source="") == scenario
