"""How much of what a window will commit can be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.knowable import FOLDS, collect, explained, main, tiers
from dsd_gym.observation import FEATURE_NAMES
from policies.past_rounds import PAST_INPUTS


def test_who_knows_the_future_explains_all_and_who_knows_nothing_none_of_it() -> None:
    random = np.random.default_rng(0)
    deployment, target = np.arange(8000.0) % 16, random.integers(0, 5, 8000).astype(float)
    chance = random.random(8000)
    assert explained(target[:, None], target, deployment) == pytest.approx(1.0, abs=1e-3)
    assert (explained(chance[:, None], target, deployment) < 0.0).all()
    half = target + random.normal(0.0, target.std(), 8000)
    assert explained(half[:, None], target, deployment) == pytest.approx(0.5, abs=0.05)


def test_a_deployment_left_out_is_not_learned_from() -> None:
    """Each has a level of its own, which its number would tell whoever had met it."""
    deployment = np.repeat(np.arange(16.0), 500)
    level = np.random.default_rng(1).normal(size=16)
    assert (explained(deployment[:, None], level[deployment.astype(int)], deployment) < 0.5).all()


def test_what_is_collected_is_what_was_known_and_what_came() -> None:
    moments = collect("train/single", 6400)
    assert 5000 < len(moments.run) <= 6400
    assert (moments.inputs[:, FEATURE_NAMES.index("cloud_mode")] == 0.0).all()
    assert set(moments.run.tolist()) <= set(range(17)) and moments.run.std() > 1.0
    assert ((moments.fleet >= 0.0) & (moments.fleet <= 1.0)).all() and 0.4 < moments.fleet[-500:].mean() < 0.9
    widths = [known.shape[1] for known in tiers(moments).values()]
    assert widths == sorted(set(widths)) and len(set((moments.deployment % FOLDS).tolist())) == FOLDS
    with_past = moments.inputs[:, -len(PAST_INPUTS) :]
    assert (with_past > 0.0).any(axis=0).all()


def test_windows_are_no_longer_than_the_scenario_serves(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("max_window: 3")
    assert len(collect(str(tmp_path / "short.yaml"), 640).run) > 300


def test_a_scenario_that_is_not_compiled_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "waiting.yaml").write_text("targets: [{batch_wait_ms: 2}]")
    with pytest.raises(SystemExit) as stopped:
        main(["--scenario", str(tmp_path / "waiting.yaml")])
    assert stopped.value.code == 2
    assert "only compiled scenarios tell what is to come" in capsys.readouterr().err
