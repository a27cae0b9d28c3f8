"""The hardware table: complete, sourced, and meaning what the formula says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dsd_gym import hardware
from dsd_gym.config import ConfigError, build
from dsd_gym.hardware import (
    EdgeHardware,
    TargetHardware,
    edge_hardware,
    load_hardware,
    target_hardware,
)

TARGETS = list(load_hardware().targets.values())
EDGES = list(load_hardware().edges.values())
by_name = pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)


def test_tables_are_large_enough_to_choose_from() -> None:
    assert len(TARGETS) >= 16 and len(EDGES) >= 10
    assert {row.device for row in TARGETS} >= {"a100", "h100", "h200", "l40s", "rtx_pro_6000"}


def test_tables_are_read_once() -> None:
    assert load_hardware() is load_hardware()


@pytest.mark.parametrize("row", [*TARGETS, *EDGES], ids=lambda row: row.name)
def test_every_figure_says_where_it_is_from(row: TargetHardware | EdgeHardware) -> None:
    assert any(word in row.source for word in ("measured", "derived", "assumed"))
    if isinstance(row, EdgeHardware):
        assert "draft" in row.source and "prefill" in row.source
    else:
        assert "Apache-2.0" in row.source and "fit error" in row.source


@by_name
def test_iteration_is_monotone_in_tokens_sequences_and_context(row: TargetHardware) -> None:
    sizes = [1, 2, 8, 32, 64, 65, 100, 300, 512, 2048]
    assert sorted(times := [row.iteration_ms(n, 1, 1000) for n in sizes]) == times
    assert sorted(times := [row.iteration_ms(512, n, 1000) for n in sizes]) == times
    assert sorted(times := [row.iteration_ms(512, 8, 100 * n) for n in sizes]) == times


@by_name
def test_arithmetic_costs_nothing_up_to_the_knee(row: TargetHardware) -> None:
    knee = int(row.knee_tokens)
    before = row.iteration_ms(knee, 1, 0) - row.iteration_ms(knee - 1, 1, 0)
    after = row.iteration_ms(knee + 2, 1, 0) - row.iteration_ms(knee + 1, 1, 0)
    assert before == pytest.approx(row.token_ms)
    assert after == pytest.approx(row.token_ms + row.compute_ms)


@by_name
def test_kv_capacity_is_what_the_weights_leave(row: TargetHardware) -> None:
    free_bytes = 0.9 * row.gpu_memory_gb * 1e9 - row.weight_bytes
    assert row.kv_capacity_tokens == pytest.approx(
        row.tensor_parallel * free_bytes / row.kv_bytes_per_token, abs=1
    )


@by_name
def test_one_token_takes_at_least_streaming_the_weights_at_the_best_bandwidth(row: TargetHardware) -> None:
    assert row.one_token_iteration_ms > row.weight_bytes / 5e9  # no device here has 5 TB/s
    assert row.one_token_iteration_ms < 150.0


def test_llama_2_70b_on_four_a100_by_hand() -> None:
    row = target_hardware("a100", "Llama-2-70b", 4)
    # 21.726 + 0.084839 + max(6.0985, 0.087504) + 1.543 + 0.0049333
    assert row.one_token_iteration_ms == pytest.approx(29.4573, abs=1e-3)
    # 8 windows of 5 tokens at 1000 of context: 21.726 + 3.39356 + 6.0985 + 1.543 + 0.0394664 + 0.463712
    assert row.iteration_ms(40, 8, 8000) == pytest.approx(33.2642, abs=1e-3)
    # past the knee at 69.7 tokens: 21.726 + 8.4839 + 8.7504 + 1.543 + 0.098666 + 1.15928
    assert row.iteration_ms(100, 20, 20_000) == pytest.approx(41.7613, abs=1e-3)
    assert row.knee_tokens == pytest.approx(69.69, abs=0.01)
    # 4 x (72e9 - 68 976 648 192 x 2 / 4) / 327 680
    assert row.kv_capacity_tokens == pytest.approx(457_906, abs=1)


def test_a_pass_without_sequences_has_no_attention() -> None:
    row = target_hardware("h100", "Llama-3.1-8B", 1)
    assert row.iteration_ms(1, 0, 0) == pytest.approx(row.fixed_ms + row.token_ms + row.weights_ms)


def test_derived_draft_step_is_the_fit_at_one_token_and_1000_of_context() -> None:
    for name in ("l40s/Llama-3.2-1B", "rtx_pro_6000/Qwen2.5-0.5B"):
        device, model = name.split("/")
        fitted = target_hardware(device, model, 1).iteration_ms(1, 1, 1000)
        assert edge_hardware(name).draft_ms_per_token == pytest.approx(fitted, rel=1e-3)


@pytest.mark.parametrize("device", ["a100", "h100", "h200", "l40s", "rtx_pro_6000"])
def test_every_target_device_can_hold_a_draft(device: str) -> None:
    for model in ("Llama-3.2-1B", "Qwen2.5-0.5B"):
        draft = target_hardware(device, model, 1).one_token_iteration_ms
        assert draft < target_hardware(device, "Llama-3.1-8B", 1).one_token_iteration_ms


def test_unknown_name_gets_the_file_and_the_nearest_rows() -> None:
    with pytest.raises(ConfigError, match=r"hardware\.yaml: no target a100/Llama-2-70B/tp4; .*70b/tp4"):
        target_hardware("a100", "Llama-2-70B", 4)
    with pytest.raises(ConfigError, match=r"configs/hardware\.yaml: no edge l40/Llama-3\.2-1B; .*l40s/Llama"):
        edge_hardware("l40/Llama-3.2-1B")


EDGE = {
    "device": "d",
    "model": "m",
    "draft_ms_per_token": 1.0,
    "prefill_ms_per_token": 1.0,
    "source": "measured",
}


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("d/m", {"prefill_ms_per_token": None}, "edges.d/m.prefill_ms_per_token: expected a number"),
        ("d/m", {"draft_ms_per_token": 0}, "edges.d/m.draft_ms_per_token: must be greater than 0, got 0"),
        ("d/m", {"source": ""}, "edges.d/m.source: "),
        ("d/n", {}, "d/n: the name of this row must be d/m"),
    ],
)
def test_a_faulty_row_is_an_error_never_a_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(str({"targets": {}, "edges": {key: EDGE | change}}).replace("None", "null"))
    monkeypatch.setattr(hardware, "HARDWARE_FILE", path)
    with pytest.raises(ConfigError, match=f"configs/hardware.yaml: {message}"):
        load_hardware.__wrapped__()


def test_a_missing_figure_is_named() -> None:
    for field in asdict(TARGETS[0]):
        data = {name: value for name, value in asdict(TARGETS[0]).items() if name != field}
        with pytest.raises(ConfigError, match=f"{field}: missing"):
            build(TargetHardware, data, source="x")
