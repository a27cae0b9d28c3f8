"""Training runs: their config, checkpoints, warm starts, export and reproducibility; small enough to take seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents import training
from agents.checkpoint import read_state, unfinished
from agents.export import export_policy
from agents.network import WindowPolicy
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig, load_train_config, scenario_ranges
from agents.training import Progress, make_learner, save_checkpoint
from dsd_gym.config import ConfigError
from dsd_gym.scenario_files import scenario_path
from policies import PolicyRunner, save_policy
from policies.kinds import KINDS

QUICK = {
    "name": "quick",
    "scenario": "train/single",
    "decisions": 512,
    "ppo.n_envs": 4,
    "ppo.rollout_steps": 64,
    "ppo.minibatch": 64,
    "ppo.epochs": 2,
    "ppo.hidden": [16, 8],
    "ppo.averaging": 0.0,
    "imitation": 0,
}


def quick(**changes: Any) -> TrainConfig:
    return load_train_config(None, QUICK | changes)


def trained(config: TrainConfig, folder: Path, resume: bool = False) -> StreamPPO:
    """Train to the config's last decision and save a checkpoint."""
    model = make_learner(config, folder, resume)
    callback = Progress(config, folder, lambda model: {}, lambda decisions, figures: None)
    model.learn(config.decisions - model.num_timesteps, callback, reset_num_timesteps=False)
    save_checkpoint(model, config, folder)
    return model


def weights(model: StreamPPO) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path, StreamPPO]:
    """One finished run, which tests only read."""
    config, folder = quick(), tmp_path_factory.mktemp("run")
    return config, folder, trained(config, folder)


# --- the config ---------------------------------------------------------------------------------------------------


def test_dotted_keys_change_the_config_and_the_scenario() -> None:
    config = load_train_config(None, {"ppo.n_envs": 96, "credit.discount": 0.998, "scenario.link.rtt_ms": 80})
    assert (config.ppo.n_envs, config.credit.discount) == (96, 0.998)
    assert config.overrides == {"link.rtt_ms": 80}
    assert config.ppo.epochs == TrainConfig().ppo.epochs


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        *(("ppo.n_env", 8, "n_envs"), ("decision", 8, "decisions")),
        *(("ppo.minibatch", 1, "ppo.minibatch"), ("ppo.rollout_steps", 1, "ppo.rollout_steps")),
        ("ppo.n_envs", 10**9, "ppo.n_envs: must be less than or equal to 100000"),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: int, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as error:
        load_train_config(None, {key: value})
    assert "default.yaml" in str(error.value)


def test_a_wrong_key_of_the_scenario_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rtt_ms"):
        make_learner(quick(**{"scenario.link.rtt": 80}), tmp_path, False)


@pytest.mark.parametrize("path", sorted(Path("configs/train").resolve().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert load_train_config(path, {}).name == {"best": "edge_cloud"}.get(path.stem, path.stem)  # the policy it makes


# --- checkpoints --------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_where_it_was_stopped(run: tuple[TrainConfig, Path, StreamPPO]) -> None:
    config, folder, model = run
    again = make_learner(config, folder, resume=True)
    assert again.num_timesteps == model.num_timesteps >= config.decisions
    assert same(weights(again), weights(model))
    np.testing.assert_array_equal(again.lows, model.lows)
    np.testing.assert_array_equal(again.highs, model.highs)
    ours, theirs = (m.policy.optimizer.state_dict()["state"] for m in (again, model))
    assert all(torch.equal(ours[i]["exp_avg"], theirs[i]["exp_avg"]) for i in theirs)


def test_a_checkpoint_on_the_way_leads_to_the_end(tmp_path: Path) -> None:
    config = quick(checkpoint_every=256, decisions=768)
    model = make_learner(config, tmp_path, resume=False)
    model.learn(512, Progress(config, tmp_path, lambda model: {}, lambda decisions, figures: None))
    assert read_state(tmp_path, config)["decisions"] == 256
    assert unfinished(tmp_path)
    assert trained(config, tmp_path, resume=True).num_timesteps == 768
    assert not unfinished(tmp_path)


def test_a_checkpoint_and_a_score_hold_every_update_that_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(checkpoint_every=256, decisions=1024, **{"comparison.score_every": 512})
    found: list[tuple[str, int, int]] = []

    def note(kind: str, model: StreamPPO) -> dict[str, float]:
        assert isinstance(model.policy, WindowPolicy)
        found.append((kind, model.num_timesteps, int(model.policy.averaged.n_averaged)))
        return {}

    monkeypatch.setattr(training, "save_checkpoint", lambda model, config, folder: note("kept", model))
    model = make_learner(config, tmp_path, resume=False)
    model.learn(1024, Progress(config, tmp_path, lambda model: note("scored", model)))
    assert found == [("kept", 256, 1), ("scored", 512, 2), ("kept", 512, 2), ("kept", 768, 3)]


def test_another_config_does_not_resume(run: tuple[TrainConfig, Path, StreamPPO]) -> None:
    _, folder, _ = run
    with pytest.raises(ConfigError, match="another config"):
        make_learner(quick(seed=1), folder, resume=True)


def test_another_comparison_resumes(run: tuple[TrainConfig, Path, StreamPPO]) -> None:
    _, folder, model = run
    again = make_learner(quick(**{"comparison.max_requests": 30}), folder, resume=True)
    assert again.num_timesteps == model.num_timesteps


def test_a_comparison_on_the_way_that_fails_leaves_a_checkpoint(tmp_path: Path) -> None:
    config = quick(**{"comparison.score_every": 256})

    def fail(model: StreamPPO) -> dict[str, float]:
        raise ConfigError("nobody is scored")

    with pytest.raises(ConfigError, match="nobody is scored"):
        training.learn(config, tmp_path, score=fail)
    assert read_state(tmp_path, config)["decisions"] == 256 and unfinished(tmp_path)


@pytest.mark.parametrize("damage", ["checkpoint.zip", "checkpoint.json"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, damage: str) -> None:
    config = quick()
    trained(config, tmp_path)
    (tmp_path / damage).write_bytes(b"[]")
    with pytest.raises(ConfigError, match=r"^\S+: (cannot be resumed from|no checkpoint to resume from)[^\n]*$"):
        make_learner(config, tmp_path, resume=True)


def test_a_scenario_file_that_has_changed_does_not_resume(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(scenario_path("train/single").read_text())
    config = quick(scenario=str(path))
    trained(config, tmp_path)
    assert read_state(tmp_path, config)["decisions"] == 512
    path.write_text(path.read_text() + "drain_ms: 1234\n")
    with pytest.raises(ConfigError, match="the scenario has changed since"):
        make_learner(config, tmp_path, resume=True)


def test_nothing_to_resume_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint to resume from"):
        make_learner(quick(), tmp_path, resume=True)


# --- warm starts and export -----------------------------------------------------------------------------------------


def exported(run: tuple[TrainConfig, Path, StreamPPO], path: Path) -> str:
    config, _, model = run
    save_policy(export_policy(model, config, scenario_ranges(config), "pytest"), path)
    return str(path)


def actor(model: StreamPPO) -> dict[str, torch.Tensor]:
    return {n: t for n, t in weights(model).items() if "policy_net" in n or "action_net" in n}


def test_starts_from_a_policy_with_its_actor(run: tuple[TrainConfig, Path, StreamPPO], tmp_path: Path) -> None:
    warm = make_learner(quick(warm_start=exported(run, tmp_path / "a.safetensors"), seed=5), tmp_path, resume=False)
    mine, its = actor(warm), actor(run[2])
    assert mine.keys() == its.keys()
    for name, tensor in mine.items():  # the last layer goes through its coefficients, and rounds
        assert torch.allclose(tensor, its[name], atol=1e-6), name
    assert not same(weights(warm), weights(run[2])), "its critic is new"
    assert warm.num_timesteps == 0


def test_starts_from_a_checkpoint_with_all_of_it(run: tuple[TrainConfig, Path, StreamPPO], tmp_path: Path) -> None:
    warm = make_learner(quick(warm_start=str(run[1] / "checkpoint.zip"), seed=5), tmp_path, resume=False)
    assert same(weights(warm), weights(run[2]))
    assert warm.num_timesteps == 0


@pytest.mark.parametrize("source", ["policy", "checkpoint"])
def test_weights_of_another_shape_are_refused(
    source: str, run: tuple[TrainConfig, Path, StreamPPO], tmp_path: Path
) -> None:
    path = exported(run, tmp_path / "a.safetensors") if source == "policy" else str(run[1] / "checkpoint.zip")
    with pytest.raises(ConfigError, match="warm_start: "):
        make_learner(quick(warm_start=path, **{"ppo.hidden": [32]}), tmp_path, resume=False)


def test_a_warm_start_of_another_kind_is_refused(run: tuple[TrainConfig, Path, StreamPPO], tmp_path: Path) -> None:
    path = exported(run, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"its kind is priced; this run trains logits \(inputs=features\)"):
        make_learner(quick(warm_start=path, inputs="features"), tmp_path, resume=False)


def test_a_missing_warm_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"warm_start: .*gone.zip: no such file"):
        make_learner(quick(warm_start=str(tmp_path / "gone.zip")), tmp_path, resume=False)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_exported_policy_decides_as_the_learner(activation: str, tmp_path: Path) -> None:
    config = quick(**{"ppo.activation": activation, "decisions": 256})
    model = trained(config, tmp_path)
    policy = export_policy(model, config, scenario_ranges(config), "pytest")
    runner = PolicyRunner(policy)
    inputs = len(policy.header.feature_names)
    seen = np.random.default_rng(0).uniform(size=(1000, inputs)).astype(np.float32)
    added = (model.observation_space.shape or (0,))[0] - inputs  # what the critic alone sees
    theirs, _ = model.predict(np.pad(seen, ((0, 0), (0, added))), deterministic=True)
    assert [int(np.argmax(runner.logits(row))) for row in seen] == theirs.tolist()
    assert policy.header.max_window == 12
    assert policy.header.training_config["ppo"]["activation"] == activation
    ranges = policy.header.feature_ranges
    assert all(low <= high for low, high in ranges.values())
    assert all(end.is_integer() for name in ("best_window", "batch_size", "context_tokens") for end in ranges[name])


def test_a_share_of_almost_all_takes_in_all(tmp_path: Path) -> None:
    """Bounds are means over rollouts: one just under what a share is clipped at would shut out what is clipped."""
    config = quick()
    model = make_learner(config, tmp_path, resume=False)
    inputs = list(KINDS[config.kind].features)
    lows, highs = np.full(len(inputs), 0.2003), np.full(len(inputs), 0.4004)
    place = inputs.index("excess_16")
    lows[place], highs[place] = 1e-5, 0.99998
    model.restore_ranges(lows.tolist(), highs.tolist())
    ranges = export_policy(model, config, scenario_ranges(config), "pytest").header.feature_ranges
    assert ranges["excess_16"] == (0.0, 1.0)
    assert ranges["cloud_over_edge"] == (0.2, 0.401)


# --- reproducibility ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights(run: tuple[TrainConfig, Path, StreamPPO], tmp_path: Path) -> None:
    config, _, model = run
    assert same(weights(trained(config, tmp_path / "again")), weights(model))
    assert not same(weights(trained(quick(seed=1), tmp_path / "other")), weights(model))
