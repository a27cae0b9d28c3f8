"""The benchmark runs as documented and says what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import benchmark
from agents import speed
from dsd_gym.scenario_files import load_scenario

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """All figures, once: a fresh start compiles for half a minute."""
    command = [sys.executable, "benchmark.py", "--seconds", "0.2", "--json"]
    told: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return told


@pytest.mark.slow
def test_json_is_one_object_of_positive_figures(figures: dict[str, Any]) -> None:
    for name in ("simulator_decisions", "simulator_tokens", "verify_jobs", "env_steps"):
        assert figures[f"{name}_per_cpu_s"] > 0
    for name in ("vector_decisions", "vector_family_decisions", "cartpole_vector_steps", "ppo_steps"):
        assert figures[f"{name}_per_s"] > 0
    assert figures["peak_memory_mb"] > 0
    latencies = figures["controller_median_us"]
    assert set(latencies) >= {"static:4", "heuristic", "leviathan", "awc"}
    assert all(microseconds > 0 for microseconds in latencies.values())
    assert "train/single" in figures["scenario"]


@pytest.mark.slow
def test_what_is_compiled_is_much_faster_and_kept(figures: dict[str, Any]) -> None:
    """Ratios on one machine, with a wide margin for what else it does."""
    assert figures["vector_over_simulator"] > 5.0
    assert figures["cached_start_s"] < 0.5 * figures["compile_s"]


@pytest.mark.slow
def test_table_is_for_people(figures: dict[str, Any]) -> None:
    lines = benchmark.table(figures).splitlines()
    assert "decisions a CPU second" in lines[1] and any("awc" in line and "us a decision" in line for line in lines)
    assert any("PPO" in line and "steps a CPU second" in line for line in lines)


def test_the_best_of_several_measurements_counts() -> None:
    """Work that is slow now and then is measured where it was not."""
    calls = iter(range(10**6))

    def work() -> int:
        until_s = time.process_time() + (0.02 if next(calls) % 2 else 0.002)
        while time.process_time() < until_s:
            pass
        return 1

    assert speed.best_rate(work, 0.1) > 1 / 0.02


def test_simulator_is_not_orders_of_magnitude_too_slow() -> None:
    """The bar is 20 000 decisions a CPU second; a quarter of it allows for a shared core without hiding a disaster."""
    scenario = load_scenario(benchmark.SCENARIO, benchmark.OVERRIDES)
    assert benchmark.simulator_rates(scenario, 0.5).decisions > 5000
