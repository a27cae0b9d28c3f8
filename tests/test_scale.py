"""An hour in pieces: the same whoever runs them and however often it is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agents import make_controller
from dsd_gym.comparison.hour import LongRun, run_long
from dsd_gym.comparison.segments import Segment, run_segment, split
from dsd_gym.config import ConfigError
from dsd_gym.metrics import summarise
from dsd_gym.scenario import EdgeClass, Scenario, Workload
from dsd_gym.scenario_files import load_scenario
from dsd_gym.simulator import simulate

ROOT = Path(__file__).parents[1]
SMALL = Scenario(
    name="small",
    edges=(EdgeClass("l40s/Llama-3.2-1B", 8),),
    workload=Workload(rate_per_s=4.0),
    warm_up_ms=1000,
    horizon_ms=9000,
)
MEASURED_BY_CLOCK = ("cpu_s", "verify_jobs_per_cpu_s", "peak_memory_mb")


def pieces(count: int, scenario: Scenario = SMALL, fraction: float = 1.0) -> list[Segment]:
    return split(scenario, "static:3", make_controller, fraction, count)


def figures_of(run: LongRun | dict[str, object]) -> dict[str, object]:
    """Return all that does not depend on the machine."""
    plain = json.loads(run.as_json()) if isinstance(run, LongRun) else run
    return {name: value for name, value in plain.items() if name not in MEASURED_BY_CLOCK}


def test_segments_measure_the_interval_together_each_with_its_own_luck() -> None:
    segments = pieces(4, fraction=0.5)
    assert sum(s.scenario.horizon_ms - s.scenario.warm_up_ms for s in segments) == 4000.0
    assert {s.scenario.warm_up_ms for s in segments} == {1000.0}
    assert len({s.seed for s in segments}) == 4


def test_one_segment_is_the_unbroken_run(tmp_path: Path) -> None:
    records = simulate(SMALL, make_controller("static:3", SMALL.max_window), SMALL.seed)
    run = run_long(pieces(1), tmp_path, jobs=1)
    exact = summarise(records)
    assert run.metrics["normalised_latency_ms"] == pytest.approx(exact["normalised_latency_ms"], rel=1e-9)
    assert run.metrics["rounds"] == exact["rounds"] and run.measured_s == 8.0
    assert run.decisions == len(records.rounds) and run.verify_jobs == sum(r.drafted > 0 for r in records.rounds)


def test_a_run_goes_on_where_it_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are there are not run again, one that cannot be read is, and the result is the same."""
    whole = run_long(pieces(3), tmp_path / "whole", jobs=1)
    run_long(pieces(3)[:1], tmp_path / "broken", jobs=1)
    (kept,) = (tmp_path / "broken").rglob("*.json")
    written_ns = kept.stat().st_mtime_ns
    ran: list[int] = []

    def counting(segment: Segment) -> object:
        ran.append(segment.seed)
        return run_segment(segment)

    monkeypatch.setattr("dsd_gym.comparison.hour.run_segment", counting)
    steps: list[tuple[int, int]] = []
    again = run_long(pieces(3), tmp_path / "broken", 1, progress=lambda *step: steps.append(step))
    assert ran == [1, 2] and kept.stat().st_mtime_ns == written_ns
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert figures_of(again) == figures_of(whole)
    kept.write_text("{")
    assert figures_of(run_long(pieces(3), tmp_path / "broken", 1)) == figures_of(whole)
    assert ran == [1, 2, 0]


def test_segments_of_another_scenario_are_not_mixed_in(tmp_path: Path) -> None:
    other = replace(SMALL, link=replace(SMALL.link, rtt_ms=150.0))
    first = run_long(pieces(2), tmp_path, 1)
    assert figures_of(run_long(pieces(2, other), tmp_path, 1)) != figures_of(first)
    assert figures_of(run_long(pieces(2), tmp_path, 1)) == figures_of(first)


def test_processes_find_the_same_figures(tmp_path: Path) -> None:
    alone, together = run_long(pieces(2), tmp_path / "1", 1), run_long(pieces(2), tmp_path / "2", 2)
    assert figures_of(alone) == figures_of(together)
    assert min(asdict(together)[name] for name in MEASURED_BY_CLOCK) > 0


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 1), (1.5, 1), (1.0, 0)])
def test_nothing_to_measure_is_refused(fraction: float, count: int) -> None:
    with pytest.raises(ConfigError, match="a fraction lies between 0 and 1, and segments are 1 or more"):
        pieces(count, fraction=fraction)


def test_load_that_changes_along_the_run_is_not_cut() -> None:
    diurnal = replace(SMALL, workload=Workload("diurnal", rate_per_s=4.0))
    with pytest.raises(ConfigError, match="small: diurnal load cannot be cut"):
        pieces(2, diurnal)
    assert len(pieces(1, diurnal)) == 1


def test_the_hour_is_an_hour_of_the_deployment_it_names() -> None:
    hour = load_scenario("scale/hour")
    assert hour.horizon_ms - hour.warm_up_ms == 3_600_000.0
    assert sum(edge.count for edge in hour.edges) == 1000 and sum(target.count for target in hour.targets) == 20


@pytest.mark.slow
def test_the_command_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "benchmark.py", "hour", "--segments", "4", "--json", "--jobs", "1"]
    command += ["--set", "warm_up_ms=500", "horizon_ms=4500", "workload.rate_per_s=40", "--out", str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (kept := list(tmp_path.rglob("seed*.json"))):
        assert first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "hour.json").exists()
    written_ns = {file: file.stat().st_mtime_ns for file in kept}
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {file: file.stat().st_mtime_ns for file in kept} == written_ns
    printed = json.loads(second.stdout)
    assert json.loads((tmp_path / "hour.json").read_text()) == printed
    assert printed["segments"] == 4 and printed["measured_s"] == 4.0
    assert printed["metrics"]["unfinished"] == 0 and printed["verify_jobs_per_cpu_s"] > 0
