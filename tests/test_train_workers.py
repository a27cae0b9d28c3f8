"""train.py over processes: mistakes on its command line, and what is left when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rollout_rig import group_members

import train
from agents.checkpoint import decisions_done
from dsd_gym.comparison import ray_workers

ROOT = Path(__file__).resolve().parents[1]
TINY = ["decisions=4_000_000", "checkpoint_every=100", "ppo.n_envs=4", "ppo.rollout_steps=32", "ppo.minibatch=32"]
TINY += ["imitation=0"]
COMMAND = [sys.executable, str(ROOT / "train.py"), "scenario=train/single", "name=tiny", *TINY, "--workers", "2"]


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        train.main(arguments)
    assert end.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in told) == 1
    return told[-1]


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_workers_are_a_number_from_one_on(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--workers: expected a whole number from 1 on, got '{count}'" in error_of(capsys, f"--workers={count}")


def test_more_workers_than_deployments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "from 1 to ppo.n_envs, which is 4" in error_of(capsys, *TINY, "--workers", "5")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("comparison.max_requests=30", "comparison: overload: a cap on requests would dilute"),
        ("comparison.scenarios=[held_out,held_out/lan_lab]", "comparison: two scenarios are named lan_lab"),
        ("comparison.controllers=[awk]", "comparison: "),
    ],
)
def test_what_the_comparison_at_the_end_would_stumble_over_is_found_first(
    setting: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in error_of(capsys, setting, "--dry-run")


def test_only_ppo_has_workers(capsys: pytest.CaptureFixture[str]) -> None:
    smoke = str(ROOT / "configs/train/awc_mlp_smoke.yaml")
    assert "--workers and --ray are for PPO" in error_of(capsys, smoke, "--workers", "2")


def test_a_cluster_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_workers, "find_spec", lambda name: None)
    assert error_of(capsys, *TINY, "--ray", "auto") == 'error: Ray is not installed: pip install -e ".[ray]"'


def test_an_address_where_no_cluster_answers_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    assert "no Ray cluster at 127.0.0.1:9: " in error_of(capsys, *TINY, "--ray", "127.0.0.1:9")


def begun(folder: Path) -> subprocess.Popen[str]:
    """Return a run in a process group of its own that has written its first checkpoint."""
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    run = subprocess.Popen(
        COMMAND, cwd=folder, text=True, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heeding
    )
    wait_until(lambda: decisions_done(folder / "runs" / "tiny") > 0 or run.poll() is not None)
    assert run.poll() is None and len(group_members(run.pid)) >= 3
    return run


def wait_until(condition: Callable[[], bool], limit_s: float = 300.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


def test_an_interrupted_run_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    """As from a terminal: every process of the group is interrupted."""
    run = begun(tmp_path)
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    assert "go on with --resume" in told and told.endswith("interrupted\n") and "Traceback" not in told
    wait_until(lambda: not group_members(run.pid), 10.0)
    assert decisions_done(tmp_path / "runs" / "tiny") > 0


def test_workers_end_with_a_killed_learner(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.kill()
    run.communicate(timeout=60)
    wait_until(lambda: not group_members(run.pid), 10.0)
