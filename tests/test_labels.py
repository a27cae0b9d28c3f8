"""Labels of the window regressor: the best fixed window of a sweep, sampled rows, and a store that resumes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_agents import SMALL

from agents import label_store
from agents.awc_mlp_training import Rows, split
from agents.label_store import LabelStore, make_labels
from agents.labels import Labelled, draw_deployment, label_deployment, make_label, slo_weighted_ms
from agents.static import Static
from agents.train_config import AwcMlpConfig, Labels, load_train_config
from dsd_gym.config import ConfigError
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.metrics import request_latencies
from dsd_gym.scenario import Slo
from dsd_gym.simulator import simulate
from policies.window_inputs import WindowInputs

QUICK = Labels(scenarios=3, horizon_ms=5_000.0, warm_up_ms=0.0, drain_ms=5_000.0, max_requests=4)
TINY = replace(SMALL, horizon_ms=4_000.0, max_window=6, max_requests=6)


def config(**changes: Any) -> AwcMlpConfig:
    chosen = AwcMlpConfig(name="quick", labels=replace(QUICK, **changes))
    assert isinstance(chosen, AwcMlpConfig)
    return chosen


# --- a label --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtt_ms", [1.0, 25.0, 300.0])
def test_the_label_is_the_best_fixed_window_of_a_sweep(rtt_ms: float) -> None:
    scenario = replace(TINY, link=replace(TINY.link, rtt_ms=rtt_ms))
    labelled = label_deployment(scenario, QUICK)
    assert labelled is not None
    swept = {
        window: slo_weighted_ms(simulate(scenario, Static(window)), QUICK.miss_weight) for window in (0, *range(2, 7))
    }
    assert labelled.costs == swept
    assert swept[labelled.best_window] == min(swept.values())
    assert labelled.label == (labelled.best_window or 1)


def test_far_away_the_cloud_is_the_label_and_next_door_a_window() -> None:
    far = label_deployment(replace(TINY, link=replace(TINY.link, rtt_ms=400.0)), QUICK)
    near = label_deployment(replace(TINY, link=replace(TINY.link, rtt_ms=0.5, jitter_ms=0.1)), QUICK)
    assert far is not None and near is not None
    assert (far.label, far.best_window) == (1, 0)
    assert near.label >= 2


def test_a_request_that_misses_an_slo_weighs_more() -> None:
    records = simulate(TINY, Static(4))
    plain = float(request_latencies(records).normalised_latency_ms.mean())
    assert slo_weighted_ms(records, 1.0) == pytest.approx(plain)
    missed = simulate(replace(TINY, slo=Slo(ttft_ms=1.0)), Static(4))
    assert slo_weighted_ms(missed, 3.0) == pytest.approx(3.0 * plain)
    assert slo_weighted_ms(records, 3.0) <= 3.0 * plain


def test_rows_are_what_streams_saw_under_every_window() -> None:
    labelled = label_deployment(TINY, QUICK)
    assert labelled is not None
    rows = labelled.rows
    held = QUICK.rows_per_window + 1
    of_windows = len(labelled.costs) * held
    assert len(rows) == of_windows + QUICK.wandering_rows + 1
    for place, window in enumerate(labelled.costs):
        *later, first = rows[place * held : (place + 1) * held]
        assert (first.previous_window, first.tpot_ms) == (0, 0.0), "a pair's very first decision"
        assert all(row.previous_window == window and (row.tpot_ms > 0.0) == (window > 0) for row in later)
    assert len({row.previous_window for row in rows[of_windows:]}) > 2, "to and fro"
    assert all(0.0 <= row.queue_utilisation < 1.0 and row.rtt_ms > 20.0 for row in rows)


def test_a_drawn_deployment_has_one_of_the_familys_classes_and_all_its_devices() -> None:
    family = load_scenario_or_family("train/family")
    assert isinstance(family, Family)
    drawn = [draw_deployment(family, np.random.default_rng([0, index]), QUICK) for index in range(60)]
    assert {len(one.edges) for one in drawn} == {1} and {one.edges[0].count for one in drawn} == {64}
    assert any((one.edges[0].draft_ms_per_token or 0.0) > 10.0 for one in drawn), "only the slow class has such"
    assert any((one.edges[0].draft_ms_per_token or 9.0) < 1.4 for one in drawn), "only the fast class has such"
    assert len({one.seed for one in drawn}) == 60


def test_a_label_depends_on_its_number_alone() -> None:
    family = load_scenario_or_family("train/family")
    assert make_label(family, 0, 3, QUICK) == make_label(family, 0, 3, QUICK) != make_label(family, 1, 3, QUICK)


def test_where_nobody_arrives_another_deployment_is_drawn() -> None:
    empty = replace(TINY, workload=replace(TINY.workload, rate_per_s=1e-9))
    assert label_deployment(empty, QUICK) is None
    with pytest.raises(ConfigError, match="nobody arrives between 0 and 5000 ms"):
        make_label(empty, 0, 0, QUICK)


# --- what is learned from them --------------------------------------------------------------------------------------


def test_deployments_are_split_whole_and_regret_is_the_cost_of_what_is_predicted() -> None:
    row = WindowInputs(0.5, 0.6, 20.0, 30.0, 4)
    made = [Labelled({0: 10.0, 2: 20.0, 3: 15.0}, (row,) * 3), Labelled({0: 30.0, 2: 20.0, 3: 25.0}, (row,) * 2)]
    rows, held_out = split(made, 0.1)
    assert (len(rows.windows), len(held_out.windows)) == (3, 2)
    both = Rows.of(made)
    assert both.windows.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert both.regret(both.windows) == 0.0
    predicted = np.array([1.4, 2.0, 9.0, -3.0, 2.6], np.float32)
    assert both.regret(predicted) == pytest.approx(np.mean([1.0, 2.0, 1.5, 1.5, 1.25]) - 1.0)
    fresh = Rows.of([Labelled(made[0].costs, (row, row._replace(tpot_ms=0.0)))])
    assert fresh.regret(np.array([1.0, 2.0], np.float32)) == 0.0, "a pair without history does not count"


# --- the store ------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_store, "cpu_count", lambda: 1)


def test_labels_come_back_and_are_not_made_twice(
    tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chosen = LabelStore(tmp_path / "labels"), config()
    store.open(chosen, resume=False)
    first = make_labels(chosen, store)
    assert store.made() == {0, 1, 2} and not store.unfinished()
    (tmp_path / "labels" / "00001.json").unlink()
    assert store.unfinished()
    made: list[int] = []
    real = label_store.make_label
    monkeypatch.setattr(label_store, "make_label", lambda *args: (made.append(args[2]), real(*args))[1])
    store.open(chosen, resume=True)
    assert make_labels(chosen, store) == first
    assert made == [1]


def test_more_labels_of_the_same_kind_are_added_to_those_there(tmp_path: Path, in_process: None) -> None:
    store = LabelStore(tmp_path)
    store.open(config(scenarios=2), resume=False)
    first = make_labels(config(scenarios=2), store)
    store.open(config(), resume=True)
    assert make_labels(config(), store)[:2] == first


def test_labels_of_another_config_are_refused_and_a_fresh_start_drops_them(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    with pytest.raises(ConfigError, match="no labels to go on from"):
        store.open(config(), resume=True)
    store.open(config(), resume=False)
    store.write(0, Labelled({0: 1.0, 2: 2.0}, (WindowInputs(0.0, 0.0, 0.0, 0.0, 0),)))
    with pytest.raises(ConfigError, match="labels of another config"):
        store.open(config(miss_weight=3.0), resume=True)
    assert store.made() == {0}
    store.open(config(), resume=False)
    assert store.made() == set()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"costs": {"a": 1}, "rows": []}', '{"costs": {}, "rows": [[1]]}'])
def test_a_damaged_label_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "00007.json").write_text(text)
    with pytest.raises(ConfigError, match=r"00007\.json: not a label"):
        LabelStore(tmp_path).read(7)


# --- the whole job --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["labels.scenarios", "regressor.epochs", "labels.held_out"])
def test_a_wrong_value_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_train_config("configs/train/awc_mlp_smoke.yaml", {key: -1})


def test_a_run_that_ends_before_it_is_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="labels: warm_up_ms must be less than horizon_ms, which is 1000"):
        load_train_config("configs/train/awc_mlp_smoke.yaml", {"labels.horizon_ms": 1000})


@pytest.mark.slow
def test_train_makes_labels_stops_resumes_and_exports(tmp_path: Path) -> None:
    """The script itself, with a working folder of its own; it exports beside the shipped policies, so that goes."""
    root = Path(__file__).resolve().parents[1]
    exported = root / "policies" / "test_awc_mlp.safetensors"
    settings = ["name=test_awc_mlp", "labels.scenarios=4", "labels.horizon_ms=6_000", "labels.max_requests=5"]
    settings += ["regressor.epochs=3", "comparison.scenarios=[held_out/lan_lab]", "comparison.max_requests=30"]

    def train(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "train.py"), str(root / "configs/train/awc_mlp_smoke.yaml")]
        return subprocess.run([*command, *settings, *more], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    try:
        done = train()
        assert done.returncode == 0, done.stderr
        assert "4 deployments: cloud decoding is best in" in done.stdout and "test_awc_mlp" in done.stdout
        first = exported.read_bytes()
        labels = tmp_path / "runs" / "test_awc_mlp" / "labels"
        (labels / "00002.json").unlink()
        refused = train()
        assert refused.returncode == 2 and "add --resume" in refused.stderr
        kept = (labels / "00001.json").stat().st_mtime_ns
        resumed = train("--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert (labels / "00001.json").stat().st_mtime_ns == kept
        assert json.loads((labels / "00002.json").read_text())["label"] >= 1
        assert exported.read_bytes() == first, "the same labels and seed give the same policy"
    finally:
        exported.unlink(missing_ok=True)
