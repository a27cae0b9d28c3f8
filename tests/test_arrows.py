"""What imports what: each package in a fresh interpreter, and what it has loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEARNERS = ("torch", "stable_baselines3", "transformers", "tensorboard")
CONFIG = ("pydantic", "yaml")
SIMULATED = ("simpy", "gymnasium")
OTHERS = ("matplotlib", "rich", "joblib", "scipy", "numba")

NEED_A_LEARNER = {"credit", "export", "network", "ppo", "training", "vec_env", "stream_links", "awc_mlp_network"} | {
    "categorical",
    "knowable",
    "speed",
    "stacked_env",
}
NEED_A_LEARNER |= {"gathered", "imitation", "learner", "ray_rollouts", "rollouts", "workers"}
NEED_THE_SIMULATOR = {"labels", "label_store", "awc_mlp_training", "population", "validation"}
AGENTS = sorted(path.stem for path in (ROOT / "agents").glob("*.py"))
NOT_RULES = NEED_A_LEARNER | NEED_THE_SIMULATOR | {"__init__"}
RULES = [f"agents.{name}" for name in AGENTS if name not in NOT_RULES and "tune" not in name]
SYSTEM = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "dsd_gym").rglob("*.py")
    if path.stem != "__init__" and "comparison" not in path.parts
)


def loaded_by(*modules: str) -> set[str]:
    """Return the top-level names in sys.modules once `modules` are imported."""
    code = f"import sys, {', '.join(modules)}; print(*(name.partition('.')[0] for name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def assert_free_of(loaded: set[str], *unwanted: str) -> None:
    assert not loaded.intersection(unwanted)


def test_importing_dsd_gym_loads_its_ground_floor_alone() -> None:
    loaded = loaded_by("dsd_gym")
    assert_free_of(loaded, *LEARNERS, *SIMULATED, *CONFIG, *OTHERS, "safetensors", "agents", "policies")


def test_metrics_latency_and_acceptance_need_no_more_than_numpy() -> None:
    loaded = loaded_by("dsd_gym.metrics", "dsd_gym.latency", "dsd_gym.acceptance", "dsd_gym.theory")
    assert_free_of(loaded, *LEARNERS, *SIMULATED, *CONFIG, *OTHERS, "safetensors", "agents", "policies")


def test_policies_need_numpy_and_safetensors_alone() -> None:
    loaded = loaded_by("policies", "policies.inspect")
    assert_free_of(loaded, *LEARNERS, *SIMULATED, *CONFIG, *OTHERS, "agents")
    assert "safetensors" in loaded


def test_controllers_need_neither_a_learner_nor_the_simulator() -> None:
    assert_free_of(loaded_by("agents", *RULES), *LEARNERS, *SIMULATED, *OTHERS)


def test_the_simulator_knows_no_controller() -> None:
    loaded = loaded_by("dsd_gym.simulator", "dsd_gym.oracle")
    assert "simpy" in loaded
    assert_free_of(loaded, *LEARNERS, *OTHERS, "gymnasium", "safetensors", "agents", "policies")


def test_nothing_of_dsd_gym_imports_agents_policies_or_a_learner() -> None:
    loaded = loaded_by(*SYSTEM, "dsd_gym.comparison.compare")
    assert_free_of(loaded, *LEARNERS, "agents", "policies")


@pytest.mark.parametrize("module", ["agents.tune", "agents.tune_table", "agents.label_store"])
def test_tuning_needs_the_simulator_but_no_learner(module: str) -> None:
    assert_free_of(loaded_by(module), *LEARNERS, "gymnasium")


RUNTIME = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "runtime").rglob("*.py")
    if path.stem != "__init__"
)


def test_the_runtime_needs_neither_the_simulator_nor_the_learner() -> None:
    loaded = loaded_by("serve", *RUNTIME)
    assert {"torch", "transformers", "grpc", "safetensors"} <= loaded
    assert_free_of(loaded, *SIMULATED, "stable_baselines3", "tensorboard")


def test_the_commands_of_serving_are_listed_without_loading_a_model() -> None:
    assert_free_of(loaded_by("serve"), *LEARNERS, *SIMULATED, "grpc")
