"""Populations: every file describes runs that can be trained, and a small one ends in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import population, validation
from agents.population import Population, _run, main
from dsd_gym.config import ConfigError, build, read_yaml
from dsd_gym.scenario_files import scenario_path

FILES = sorted((Path(__file__).resolve().parents[1] / "configs" / "populations").glob("*.yaml"))
TWO = validation.deployments(2)
TINY = """
seeds: 2
base: {scenario: train/single, decisions: 512, imitation: 256, ppo.n_envs: 4, ppo.rollout_steps: 64, ppo.minibatch: 64}
variants:
  - {name: base}
  - {name: blind, about: sees less, set: {critic: blind}}
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variant_is_a_config(path: Path) -> None:
    found = build(Population, read_yaml(path), source=str(path))
    configs = [_run(found, variant, 0, Path("runs")).train_config for variant in found.variants]
    assert len({variant.name for variant in found.variants}) == len(configs)
    assert all(one != configs[0] for one in configs[1:])


def test_a_run_in_a_scenario_that_has_changed_is_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(scenario_path("train/single").read_text())
    found = build(Population, {"variants": [{"name": "base"}], "base": {"scenario": str(path)}}, source="x.yaml")
    before, same = (_run(found, found.variants[0], 0, Path("x.yaml")).path for _ in range(2))
    path.write_text(path.read_text() + "drain_ms: 1234\n")
    assert _run(found, found.variants[0], 0, Path("x.yaml")).path != before == same


def test_a_variant_set_against_nobody_is_refused() -> None:
    variants = [{"name": "base"}, {"name": "other", "against": "bas"}]
    with pytest.raises(ConfigError, match="other: against: no variant bas"):
        build(Population, {"variants": variants}, source="x.yaml")


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two are named base"):
        build(Population, {"variants": [{"name": "base"}, {"name": "base", "set": {"imitation": 0}}]}, source="x.yaml")


def test_a_wrong_key_is_named_with_the_file_and_the_variant_it_stands_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text("variants: [{name: base}, {name: other, set: {credit.chian: env}}]")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "x.yaml")])
    assert "x.yaml: other: credit.chian: unknown key; did you mean chain?" in capsys.readouterr().err


@pytest.mark.slow
def test_ends_in_a_table_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validation, "deployments", lambda: TWO)
    validation.rival_latencies.cache_clear()
    (tmp_path / "tiny.yaml").write_text(TINY)
    main(["tiny.yaml", "--jobs", "1"])
    first = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("|")][2:] == ["base", "blind"]
    assert (tmp_path / "runs" / "tiny" / "table.md").read_text() in first
    assert len(list((tmp_path / "runs" / "tiny").glob("*/*.safetensors"))) == 4
    monkeypatch.setattr(population, "train", lambda run: pytest.fail("trained again"))
    main(["tiny.yaml", "--jobs", "1"])
    assert capsys.readouterr().out == first
    monkeypatch.setattr(population, "_code", lambda: "of today")
    main(["tiny.yaml", "--jobs", "1"])
    told = capsys.readouterr().out.removeprefix(first.rstrip())
    assert told.strip() == "Trained or validated by another version of the code: base-0, base-1, blind-0, blind-1."
    damaged = next((tmp_path / "runs" / "tiny" / "blind").glob("0-*.json"))
    damaged.write_text(damaged.read_text().replace("log_ratios", "logs"))
    with pytest.raises(SystemExit, match="2"):
        main(["tiny.yaml", "--jobs", "1"])
    assert f"{damaged.name}: not the result of a run" in capsys.readouterr().err
    validation.rival_latencies.cache_clear()
