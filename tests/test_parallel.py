"""Work over processes: every piece once, whoever is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from parallel_work import Task, fails, square

from dsd_gym.comparison import parallel, ray_workers
from dsd_gym.comparison.parallel import run_all
from dsd_gym.config import ConfigError
from dsd_gym.files import INTERRUPTED


def attempts(folder: Path) -> dict[int, list[str]]:
    """Return the process ids of each number's attempts."""
    return {int(log.stem): log.read_text().split() for log in folder.glob("*.log")}


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_piece_is_done_once(tmp_path: Path, jobs: int) -> None:
    tasks = [Task(number, tmp_path) for number in range(5)]
    assert sorted(run_all(square, tasks, jobs)) == [(number, number**2) for number in range(5)]
    done = attempts(tmp_path)
    assert [len(pids) for pids in done.values()] == [1] * 5
    assert ([str(os.getpid())] in done.values()) == (jobs == 1)


def test_what_a_killed_worker_had_in_hand_is_done_again(tmp_path: Path) -> None:
    tasks = [Task(number, tmp_path, kills=2 if number == 1 else 0) for number in range(6)]
    assert sorted(run_all(square, tasks, 2)) == [(number, number**2) for number in range(6)]
    assert len(attempts(tmp_path)[1]) == 3


def test_a_piece_that_kills_every_worker_ends_in_one_line(tmp_path: Path) -> None:
    tasks = [Task(number, tmp_path, kills=100 if number == 0 else 0) for number in range(3)]
    with pytest.raises(ConfigError, match="killed again and again; fewer jobs take less memory"):
        list(run_all(square, tasks, 2))
    assert len(attempts(tmp_path)[0]) <= 3 + parallel.RETRIES  # at most once more for each of the others that got done


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_work_is_raised_as_it_is(jobs: int) -> None:
    with pytest.raises(ValueError, match="three is wrong"):
        list(run_all(fails, [1, 3], jobs))


@pytest.mark.parametrize("after_s", [0.1, 3.0])
def test_an_interrupt_ends_workers_at_once_and_without_a_word(tmp_path: Path, after_s: float) -> None:
    """While they import, and while they work."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy\nfrom dsd_gym.comparison.parallel import run_all\nfrom dsd_gym.files import exits_cleanly\n"
        "from parallel_work import sleeps\n\n@exits_cleanly\ndef main():\n"
        "    print('go', flush=True)\n    list(run_all(sleeps, range(4), 2))\n\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    paths = os.pathsep.join(str(Path(__file__).parent.joinpath(up).resolve()) for up in (".", ".."))
    process = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        assert process.stdout and process.stdout.readline() == "go\n"
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30.0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (INTERRUPTED, "interrupted\n")


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'Ray is not installed: pip install -e "\.\[ray\]"'):
        list(run_all(fails, [1], 1, "auto"))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_an_address_where_no_cluster_answers_is_one_line(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=f"no Ray cluster at {address}: "):
        list(run_all(fails, [1], 1, address))


@pytest.mark.slow
def test_a_cluster_does_every_piece_and_again_what_a_lost_worker_had_in_hand(tmp_path: Path, cluster: str) -> None:
    tasks = [Task(number, tmp_path, kills=2 if number == 3 else 0) for number in range(6)]
    assert sorted(run_all(square, tasks, 1, cluster)) == [(number, number**2) for number in range(6)]
    done = attempts(tmp_path)
    assert len(done[3]) == 3 and len({pid for pids in done.values() for pid in pids}) > 1


@pytest.mark.slow
def test_a_cluster_raises_errors_as_they_are_and_gives_up_on_what_kills_its_workers(
    tmp_path: Path, cluster: str
) -> None:
    with pytest.raises(ValueError, match="three is wrong"):
        list(run_all(fails, [1, 3], 1, cluster))
    with pytest.raises(ConfigError, match="work was lost 4 times"):
        list(run_all(square, [Task(1, tmp_path, kills=100)], 1, cluster))


@pytest.mark.slow
def test_a_comparison_on_a_cluster_equals_one_over_processes_to_the_last_digit(cluster: str) -> None:
    from agents import make_controller
    from dsd_gym.comparison.compare import compare
    from dsd_gym.scenario_files import load_scenario

    simulated = {"targets.0.order": "priority"}  # by SimPy: compiling there is test_ray_rollouts'
    scenario = load_scenario("held_out/lan_lab", {"warm_up_ms": 500.0, "horizon_ms": 2500.0, **simulated})
    arguments = [scenario], ["static:2", "awc", "policies/edge_cloud.safetensors"], range(2), make_controller
    assert compare(*arguments, ray_address=cluster).rows == compare(*arguments, jobs=2).rows
