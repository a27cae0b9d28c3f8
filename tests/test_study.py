"""Studies: every shipped one is valid, a sweep goes on where it was stopped, and what is read off lines is right."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import study as script
from agents import make_controller
from dsd_gym.config import ConfigError, build
from dsd_gym.studies.figures import MOST_NAMES, _told_apart
from dsd_gym.studies.readings import best_windows, capacities, crossovers, first_crossing
from dsd_gym.studies.study import STUDY_FOLDER, Axis, Study, lines, load_study, points, smoke
from dsd_gym.studies.sweep import Results, sweep
from dsd_gym.theory import break_even_rtt_ms

SHIPPED = sorted(file.stem for file in STUDY_FOLDER.glob("*.yaml"))
TINY: dict[str, Any] = {
    "title": "Tiny",
    "question": "Does it run?",
    "scenario": "study/single_user",
    "x": {"label": "RTT (ms)", "key": "link.rtt_ms", "values": [5, 50]},
    "controllers": ["static:4", "static:0"],
    "metrics": ["tpot_ms", "cloud_share"],
    "set": {"horizon_ms": 4000},
    "seeds": 2,
}


def tiny(**changes: Any) -> Study:
    return build(Study, TINY | changes, source="tiny.yaml")


def made(study: Study, metric: Any) -> Results:
    """Return results that `metric` makes of (panel, x, line, seed)."""
    return {
        (point.panel, point.x, point.line): [
            {study.metrics[0]: metric(point.panel, point.x, point.line, seed)} for seed in range(study.seeds)
        ]
        for point in points(study)
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_is_valid_and_says_what_it_found(name: str) -> None:
    study = load_study(name)
    found = list(points(study))
    assert len(found) == len({(p.panel, p.x, p.line) for p in found})
    assert len(list(points(smoke(study)))) <= 4 * len(lines(study))
    for point in found[: len(lines(study))]:
        make_controller(point.line.controller, point.scenario.max_window)
    assert study.finding, "a study that is shipped has been run and read"


def test_a_sweep_gives_the_same_again_without_simulating(tmp_path: Path) -> None:
    kept = tmp_path / "cells.jsonl"
    first = sweep(tiny(), make_controller, kept, jobs=1)
    told: list[tuple[int, int]] = []
    again = sweep(tiny(), make_controller, kept, 1, lambda done, total: told.append((done, total)))
    assert again == first or json.dumps(str(again)) == json.dumps(str(first))
    assert told == [(8, 8)]


def test_points_that_only_the_simulator_knows_are_run_beside_others(tmp_path: Path) -> None:
    ordered = {"name": "ordered", "set": {"targets.0.order": "priority"}}  # all are equal
    study = tiny(variants=[{"name": "plain"}, ordered], controllers=["static:4"])
    found = sweep(study, make_controller, tmp_path / "cells.jsonl", jobs=1)
    told = {name: [found[place] for place in found if place[2].name == name] for name in ("plain", "ordered")}
    assert len(told["plain"]) == 2 and told["plain"] == told["ordered"]


def test_a_sweep_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    kept = tmp_path / "cells.jsonl"
    first = sweep(tiny(), make_controller, kept, jobs=1)
    whole = kept.read_text().splitlines()
    kept.write_text("\n".join(whole[:3]) + "\n" + whole[3][:40] + "\n")
    told: list[int] = []
    assert str(sweep(tiny(), make_controller, kept, 1, lambda done, _: told.append(done))) == str(first)
    assert told == sorted(told) and (told[0], told[-1]) == (3, 8)


@given(st.floats(1.5, 99.0), st.booleans())
def test_a_crossing_of_straight_lines_is_found_where_it_is(crossing: float, log: bool) -> None:
    places = [1.0, 4.0, 20.0, 50.0, 100.0]
    scale = math.log if log else float
    gaps = [scale(crossing) - scale(place) for place in places]
    assert first_crossing(places, gaps, log) == pytest.approx(crossing)


def test_lines_that_never_cross_or_begin_crossed_are_told_apart() -> None:
    assert first_crossing([1, 2, 3], [1, 1, 1], False) == math.inf
    assert first_crossing([1, 2, 3], [-1, 1, 1], False) == -math.inf
    study = tiny(reading={"kind": "crossover"})
    never = crossovers(study, made(study, lambda p, x, line, seed: 10.0 if line.controller == "static:4" else 20.0))
    assert [read.beyond for read in never] == [">"] and never[0].at.value == 50


def test_capacity_is_where_a_line_falls_under_the_level() -> None:
    x = {"label": "users", "key": "workload.users", "values": [10, 20, 30]}
    study = tiny(x=x, reading={"kind": "capacity", "level": 0.9}, seeds=4, metrics=["slo_attainment"])
    study_lines = {"static:4": (1.0, 1.0, 0.8), "static:0": (1.0, 1.0, 1.0)}
    found = capacities(study, made(study, lambda p, x, line, seed: study_lines[line.controller][x]))
    assert [(read.name, read.beyond) for read in found] == [("static:4", ""), ("static:0", ">")]
    assert found[0].at == pytest.approx((25.0, 25.0, 25.0))


@given(st.lists(st.floats(0.1, 1000.0), min_size=2, max_size=40, unique=True))
def test_names_along_a_logarithmic_axis_have_room(values: list[float]) -> None:
    axis = Axis("x", tuple(sorted(values)), "seed", log=True)
    places = [math.log(value) for value in axis.places]
    told = [places[index] for index in _told_apart(axis)]
    assert (told[0], told[-1]) == (places[0], places[-1])
    assert all(b - a >= (places[-1] - places[0]) / MOST_NAMES * (1 - 1e-9) for a, b in pairwise(told))


def test_the_best_window_and_those_within_the_band() -> None:
    study = tiny(reading={"kind": "best_window", "band": 0.02}, controllers=["static:0", "static:2", "static:4"])
    cost = {"static:0": 30.0, "static:2": 20.0, "static:4": 20.3}
    best = best_windows(study, made(study, lambda p, x, line, seed: cost[line.controller]))
    assert [(found.window, found.as_good) for found in best] == [(2, (2, 4))] * 2


def test_the_break_even_round_trip_meets_the_closed_form(tmp_path: Path) -> None:
    """With t_cloud as the pass of one token takes."""
    x = {"label": "RTT (ms)", "key": "link.rtt_ms", "values": [10, 30, 50, 70, 90]}
    study = tiny(
        x=x, controllers=["static:5", "static:0"], reading={"kind": "crossover"}, set={"edges.0.draft_ms_per_token": 5}
    )
    (read,) = crossovers(study, sweep(study, make_controller, tmp_path / "cells.jsonl", jobs=1))
    assert read.at.value == pytest.approx(break_even_rtt_ms(0.8, window=5, draft_ms=5.0, cloud_ms=29.5), abs=6.0)


def test_the_script_writes_a_page_whose_pictures_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "DOCS", tmp_path / "docs")
    script.main(["break_even", "--smoke", "--jobs", "1"])
    out = Path("runs/studies/smoke")
    text = (out / "break_even.md").read_text()
    pictures = [part.split(")")[0] for part in text.split("](")[1:]]
    assert pictures and all((out / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert "python study.py break_even --smoke" in text
    assert not (tmp_path / "docs").exists()


def test_where_no_page_can_be_written_is_told_before_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "sweep", lambda *_: pytest.fail("swept"))
    (tmp_path / "a_file").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main(["break_even", "--out", str(tmp_path / "a_file")])
    assert "a_file: cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": {"label": "x", "values": [1]}}, "tiny.yaml: x: key is missing"),
        ({"x": {"label": "x", "values": [{"seed": 1}]}}, "tiny.yaml: x: values that are not numbers need names"),
        ({"x": {"label": "x", "key": "router", "values": ["jsq", "random"]}}, "x: values that are not numbers need"),
        ({"x": {"label": "x", "key": "seed", "values": [1], "names": ["a", "b"]}}, "names must be as many"),
        ({"colour": 1}, "tiny.yaml: colour"),
        ({"x": {"label": "x", "key": "seed", "values": [0, 1], "log": True}}, "x: log needs numbers above 0"),
        ({"name": "../tiny"}, "tiny.yaml: name: "),
        ({"controllers": ["static:4"], "reading": {"kind": "crossover"}}, "tiny.yaml: .*two controllers, not of"),
        ({"controllers": ["awc"], "reading": {"kind": "best_window"}}, "tiny.yaml: .*none of awc is a fixed window"),
    ],
)
def test_a_wrong_study_is_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"metrics": ["tpot_mss"]}, {"reading": {"kind": "capacity", "metric": "tpot_mss"}}, {"metrics": ["tpot_ms.chat"]}],
)
def test_an_unknown_metric_is_one_line_before_the_sweep(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study: metrics: no tpot_ms.*did you mean tpot_ms"):
        sweep(tiny(**changes), make_controller, tmp_path / "cells.jsonl", jobs=1)
    assert not (tmp_path / "cells.jsonl").exists()


def test_a_wrong_key_of_the_scenario_names_the_study() -> None:
    with pytest.raises(ConfigError, match=r"study: .*rtt_mss"):
        list(points(tiny(set={"link.rtt_mss": 3})))
