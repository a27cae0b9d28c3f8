import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import evaluate
from agents import make_controller
from dsd_gym.comparison.compare import compare
from dsd_gym.comparison.evaluation import Evaluation, load, save
from dsd_gym.comparison.report.page import report, write_report
from dsd_gym.comparison.tables import short_names
from dsd_gym.config import ConfigError
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, LinkSpec, Scenario, Workload
from tests.report_pages import NASTY, NASTY_POLICY, Node, read

CALM = Scenario(
    name="calm",
    description="A quiet <i>place</i> & more",
    warm_up_ms=500.0,
    horizon_ms=3000.0,
    drain_ms=5000.0,
    max_window=4,
    edges=(EdgeClass(count=7, link=LinkSpec(rtt_ms=5.0)), EdgeClass()),
    workload=Workload(rate_per_s=4.0),
    lengths=Lengths(prompt_mean=50.0, prompt_median=40.0, output_mean=20.0, output_median=20.0),
    acceptance=Acceptance(profile="constant", probability=0.7),
)
OTHER = replace(CALM, name=NASTY, acceptance=Acceptance(profile="constant", probability=0.9))
CROWDED = replace(CALM, name="crowded", score="throughput", drain_ms=1.0, workload=Workload(rate_per_s=40.0))
SPECS = ["static:2", "static:best", "heuristic", "awc"]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """A real comparison, one of whose controllers goes by the name of a policy."""
    found = compare(
        [CALM, OTHER, CROWDED],
        SPECS,
        range(4),
        make_controller,
        jobs=1,
        map_controllers=["awc"],
        command="python evaluate.py --out '<x>'",
    )
    renamed = (replace(r, controller=NASTY_POLICY) if r.controller == "awc" else r for r in found.rows)
    maps = (replace(m, controller=NASTY_POLICY) for m in found.window_maps)
    return replace(found, rows=tuple(renamed), window_maps=tuple(maps))


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> str:
    return report(evaluation)


@pytest.fixture(scope="module")
def tree(page: str) -> Node:
    return read(page)


def test_the_page_is_well_formed_and_its_ids_are_unique(tree: Node) -> None:
    ids = [node.attributes["id"] for node in tree.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids)) > 0
    assert [len(tree.all(name)) for name in ("html", "head", "title", "body", "main", "h1")] == [1] * 6


def test_every_link_leads_to_a_place_in_the_page(tree: Node) -> None:
    ids = {f"#{node.attributes['id']}" for node in tree.walk() if "id" in node.attributes}
    links = [node.attributes["href"] for node in tree.all("a")]
    assert len(links) > 6 and set(links) <= ids
    assert {node.attributes["href"] for node in tree.all("use")} <= ids


def test_the_page_loads_nothing(page: str, tree: Node) -> None:
    for node in tree.walk():
        assert node.name not in ("script", "iframe", "object", "embed", "base", "form")
        for key, value in node.attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "srcset", "poster", "data"):
                assert value is not None and value.startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", page)
    policy = next(n.attributes["content"] for n in tree.all("meta") if "http-equiv" in n.attributes)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_what_users_wrote_is_text_and_nothing_else(page: str, tree: Node) -> None:
    assert NASTY not in page and "<script" not in page and "<i>place" not in page
    assert NASTY in [node.text for node in tree.all("h3")]
    assert NASTY_POLICY in {node.attributes.get("title") for node in tree.all("th")}
    assert "A quiet <i>place</i> & more" in [node.text for node in tree.all("p")]
    assert "python evaluate.py --out '<x>'" in [node.text for node in tree.by_id("made").all("pre")]
    assert any(NASTY_POLICY.split("/")[1].removesuffix(".safetensors") in n.text for n in tree.all("text"))


def test_every_scenario_has_a_section_with_every_controller(evaluation: Evaluation, tree: Node) -> None:
    names = list(short_names(evaluation.controllers).values())
    for index, scenario in enumerate(evaluation.scores, 1):
        section = tree.by_id(f"scenario-{index}")
        assert section.all("h3")[0].text == scenario
        (table,) = section.all("table")
        assert list(dict.fromkeys(row for row, _ in table.cells())) == names
        assert len(section.all("svg")) == 2
        assert all(svg.attributes["role"] == "img" and svg.attributes["aria-label"] for svg in section.all("svg"))
        window = evaluation.cell(scenario, "static:best")[0].window
        assert f"(static:best): {window}" in section.text


def test_figures_are_those_of_the_evaluation(evaluation: Evaluation, tree: Node) -> None:
    shown = {
        "normalised latency": ("normalised_latency_ms", 1.0),
        "TTFT mean": ("ttft_ms", 1.0),
        "TPOT p50": ("tpot_ms_p50", 1.0),
        "TPOT p99": ("tpot_ms_p99", 1.0),
        "throughput": ("throughput_tokens_s", 1.0),
        "goodput": ("goodput_requests_s", 1.0),
        "acceptance rate": ("acceptance_rate", 100.0),
        "mean window": ("mean_window", 1.0),
        "target utilisation": ("target_utilisation", 100.0),
    }
    names = short_names(evaluation.controllers)
    for index, scenario in enumerate(evaluation.scores, 1):
        cells = tree.by_id(f"scenario-{index}").all("table")[0].cells()
        for spec in evaluation.controllers:
            for heading, (metric, scale) in shown.items():
                value = scale * evaluation.mean(scenario, spec, metric)
                if not math.isnan(value):
                    assert first_number(cells[names[spec], heading]) == pytest.approx(value, rel=0.006, abs=0.06)
            for count in ("unfinished", "rejected"):
                total = evaluation.total([scenario], spec, count)
                assert cells[names[spec], count] == f"{total:,}"
    assert evaluation.total(["crowded"], "static:2", "unfinished") > 0


def test_intervals_are_those_of_the_evaluation(evaluation: Evaluation, tree: Node) -> None:
    latency, throughput = (table.cells() for table in tree.by_id("results").all("table"))
    for cells, scenarios in ((latency, ["calm", NASTY, "geometric mean"]), (throughput, ["crowded"])):
        for scenario in scenarios:
            summary = evaluation.summaries[scenario, "heuristic"]
            percents = [100.0 * (ratio - 1.0) for ratio in summary.ratio]
            figures = [float(n) for n in re.findall(r"[-+][\d.]+", cells[scenario, "heuristic"])]
            assert figures == pytest.approx(percents, abs=0.0501)
            assert first_number(cells[scenario, "heuristic"]) == pytest.approx(summary.mean, rel=0.006)
    assert "unfinished" in throughput["crowded", "static:2"] and "req/s" in throughput["crowded", "static:2"]


def first_number(text: str) -> float:
    found = re.match(r"[\d,.]+", text)
    assert found, text
    return float(found[0].replace(",", ""))


def test_config_versions_and_seeds_are_told(evaluation: Evaluation, tree: Node) -> None:
    made, calm = tree.by_id("made").text, tree.by_id("scenario-1")
    ours = f"dsd-gym {evaluation.package_version}"
    assert all(text in made for text in (ours, "python 3.", "numpy ", "simpy ", "gymnasium ", "0, 1, 2 and 3"))
    (details,) = calm.all("details")
    assert "rate_per_s: 4.0" in details.text and "open" not in details.attributes
    assert "7 x l40s/Llama-3.2-1B (link: round trip 5 ms" in calm.text


def test_equal_comparisons_make_equal_pages(evaluation: Evaluation, page: str, tmp_path: Path) -> None:
    save(evaluation, tmp_path / "evaluation.json")
    assert report(load(tmp_path / "evaluation.json")) == page


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.usefixtures("no_matplotlib")
def test_an_older_file_makes_a_page_that_says_what_is_missing(evaluation: Evaluation, tmp_path: Path) -> None:
    save(evaluation, tmp_path / "evaluation.json")
    data = json.loads((tmp_path / "evaluation.json").read_text())
    del data["configs"], data["versions"]
    (tmp_path / "evaluation.json").write_text(json.dumps(data))
    old = read(report(load(tmp_path / "evaluation.json")))
    assert old.text.count("an earlier version wrote") == 3 + 1 and "ot recorded" in old.by_id("made").text
    assert not old.all("details")


@pytest.mark.usefixtures("no_matplotlib")
def test_a_config_of_another_version_is_shown_without_key_figures(evaluation: Evaluation) -> None:
    configs = {name: config | {"of_tomorrow": 1} for name, config in evaluation.configs.items()}
    section = read(report(replace(evaluation, configs=configs))).by_id("scenario-1")
    assert "of_tomorrow: 1" in section.all("details")[0].text and not section.all("dl")


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_page_comes_and_says_so(evaluation: Evaluation) -> None:
    plain = read(report(evaluation))
    assert not plain.all("svg") and "matplotlib was not installed" in plain.by_id("pictures").text
    assert len(plain.all("table")) == 5


@pytest.mark.usefixtures("no_matplotlib")
def test_a_page_that_cannot_be_written_is_one_line(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/report\.html: "):
        write_report(evaluation, tmp_path / "file" / "report.html")


def test_the_script_writes_the_page_when_asked(
    evaluation: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(evaluation, tmp_path / "evaluation.json")
    evaluate.main(["--from", str(tmp_path / "evaluation.json"), "--reference", "heuristic", "--report"])
    assert capsys.readouterr().out.rstrip().endswith(", report.html")
    assert "against heuristic" in read((tmp_path / "report.html").read_text()).by_id("results").text
    assert not list(tmp_path.glob(".*"))
