"""The benchmark runs as documented and says what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import benchmark
from dsd_gym.scenario_files import load_scenario

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> str:
    command = [sys.executable, "benchmark.py", "--seconds", "0.2", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_json_is_one_object_of_positive_figures() -> None:
    figures = json.loads(run("--json"))
    for name in ("simulator_decisions", "simulator_tokens", "verify_jobs", "env_steps"):
        assert figures[f"{name}_per_cpu_s"] > 0
    assert figures["peak_memory_mb"] > 0
    latencies = figures["controller_median_us"]
    assert set(latencies) >= {"static:4", "heuristic", "leviathan", "awc"}
    assert all(microseconds > 0 for microseconds in latencies.values())
    assert "train/single" in figures["scenario"]


def test_table_is_for_people() -> None:
    lines = run().splitlines()
    assert "decisions a CPU second" in lines[1] and any("awc" in line and "us a decision" in line for line in lines)


def test_simulator_is_not_orders_of_magnitude_too_slow() -> None:
    """The bar is 20 000 decisions a CPU second; a quarter of it allows for a shared core without hiding a disaster."""
    scenario = load_scenario(benchmark.SCENARIO, benchmark.OVERRIDES)
    assert benchmark.simulator_rates(scenario, 0.5).decisions > 5000
