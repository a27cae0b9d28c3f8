import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate
from dsd_gym.config import ConfigError

SCENARIO = """
warm_up_ms: 500
horizon_ms: 2500
drain_ms: 4000
max_window: 4
workload: {rate_per_s: 4}
lengths: {prompt_mean: 50, prompt_median: 40, output_mean: 16, output_median: 16}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios")
    (folder / "calm.yaml").write_text(SCENARIO)
    (folder / "crowded.yaml").write_text(
        SCENARIO.replace("rate_per_s: 4", "rate_per_s: 30") + "score: throughput\n"
    )
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, str]:
    """One whole run of the script, and what it printed."""
    specs = ("static:2", "static:best", "heuristic", "awc")
    result = run(
        "--scenarios", folder, "--controllers", *specs, "--seeds", 4, "--out", folder / "out", cwd=folder
    )
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "out", result.stdout


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, root / "evaluate.py", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


def test_a_run_leaves_table_json_and_plots(finished: tuple[Path, str]) -> None:
    out, printed = finished
    for text in ("calm", "crowded", "geometric mean", "static:best", "95 % intervals", "unfinished /"):
        assert text in printed
    data = json.loads((out / "evaluation.json").read_text())
    assert data["command"].startswith("python evaluate.py --scenarios ") and len(data["rows"]) == 2 * 4 * 4
    pictures = {"normalised_latency", "tpot_distribution", "over_time_calm", "window_map"}
    assert {path.stem for path in out.glob("*.png")} == pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.glob("*.png"))
    assert (out / "table.md").read_text().startswith("Normalised latency")
    assert not list(out.glob(".*"))


def test_from_redraws_the_same_without_simulating(
    finished: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, printed = finished
    monkeypatch.setattr(evaluate, "compare", None)
    evaluate.main(["--from", str(out / "evaluation.json"), "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]
    assert (tmp_path / "table.md").read_text() == (out / "table.md").read_text()
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_from_takes_another_reference(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(finished[0] / "evaluation.json")
    evaluate.main(["--from", source, "--out", str(tmp_path), "--reference", "awc"])
    assert "against awc" in capsys.readouterr().out


def test_the_sweep_is_cached(finished: tuple[Path, str], folder: Path) -> None:
    assert len(list((folder / "runs/cache/static_best").rglob("*.json"))) == 2 * 4 * 5


def test_overrides_reach_every_scenario(folder: Path) -> None:
    scenarios = evaluate.load_scenarios([str(folder)], {"link.rtt_ms": 77.0})
    assert [scenario.name for scenario in scenarios] == ["calm", "crowded"]
    assert {scenario.link.rtt_ms for scenario in scenarios} == {77.0}


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scenarios"):
        evaluate.load_scenarios([str(tmp_path)], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenarios", "nowhere"], "nowhere: no such scenario"),
        (["--scenarios", "FOLDER", "--controllers", "magic"], "magic: unknown controller"),
        (["--scenarios", "FOLDER", "--controllers", "static:5"], "static:5: the window must be"),
        (["--controllers"], "expected at least one argument"),
        (["--seeds", "0"], "--seeds: expected a whole number from 1 on, got '0'"),
        (["--scenarios", "FOLDER", "--set", "link.rtt=3"], "link.rtt: unknown key; did you mean rtt_ms?"),
        (["--scenarios", "FOLDER", "--out", "FOLDER/calm.yaml"], "calm.yaml: cannot be written"),
        (["--from", "missing.json"], "missing.json: no such file"),
        (["--from", "FOLDER/calm.yaml"], "calm.yaml: not JSON"),
        (["--from", "x.json", "--seeds", "3"], "--seeds changes what is simulated"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        evaluate.main([argument.replace("FOLDER", str(folder)) for argument in arguments])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(rows=[]), "no rows"),
        (lambda data: data.update(surplus=1), "surplus: unknown key"),
        (lambda data: data["rows"].pop(), "has seeds"),
        (lambda data: data.update(reference="x"), "no rows of the reference x"),
        (lambda data: data["rows"][3]["metrics"].clear(), "rows.3.metrics.normalised_latency_ms: missing"),
        (lambda data: data["rows"][1]["metrics"].pop("unfinished"), "rows.1.metrics.unfinished: missing"),
        (lambda data: data["window_maps"][0]["windows"].pop(), "window_maps.0: windows must have a row for each"),
        (lambda data: data["rows"][0].update(seed="0"), "rows.0.seed: expected a whole number, got '0'"),
    ],
)
def test_a_file_of_another_shape_is_refused(
    finished: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: object,
    message: str,
) -> None:
    data = json.loads((finished[0] / "evaluation.json").read_text())
    change(data)  # type: ignore[operator]
    (tmp_path / "changed.json").write_text(json.dumps(data))
    with pytest.raises(SystemExit):
        evaluate.main(["--from", str(tmp_path / "changed.json")])
    assert message in capsys.readouterr().err
