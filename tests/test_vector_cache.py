"""What the twin keeps compiled on disk is never that of other sources."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dsd_gym
import dsd_gym.vector.compiled as twin
from agents import stream_links

PACKAGE = Path(dsd_gym.__file__).parent


def test_every_module_that_lends_a_formula_counts_for_the_folders_name() -> None:
    lent = [function for _, function in inspect.getmembers(twin) if hasattr(function, "py_func")]
    files = {Path(inspect.getfile(function.py_func)).relative_to(PACKAGE).as_posix() for function in lent}
    assert len(lent) > 10
    assert {*files, "observation.py"} == set(twin._SHARED)  # rules are compiled for the features of an observation


@pytest.mark.parametrize("name", [*twin._SHARED, "vector/life.py", "vector/layout.py"])
def test_a_changed_source_has_a_folder_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "dsd_gym"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(twin, "_PACKAGE", copy)
    monkeypatch.setattr(twin, "__file__", str(copy / "vector" / "compiled.py"))
    before = twin._cache_folder()
    assert Path(before).is_relative_to(copy)
    (copy / name).write_text((copy / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert twin._cache_folder() != before


def test_a_folder_of_the_users_own_is_told_apart_by_sources_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    assert twin._cache_folder() == f"/somewhere/numba-{twin._digest()}"


def test_what_the_learner_compiles_calls_nothing_of_other_files() -> None:
    """Its own file is looked at by numba; a function of another would be kept when that one changes."""
    made: list[Any] = [function for _, function in inspect.getmembers(stream_links) if hasattr(function, "py_func")]
    assert len(made) == 3
    for function in made:
        called = (function.py_func.__globals__.get(name) for name in function.py_func.__code__.co_names)
        assert not any(hasattr(other, "py_func") for other in called)


def test_the_simulator_and_the_runtime_do_without_numba() -> None:
    code = "import sys; sys.modules['numba'] = None; import dsd_gym.env, dsd_gym.simulator, runtime.edge"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
