"""The staircase: the figures that were measured, in steps, through the same interface as the smooth fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from target_bench import Bench

from dsd_gym import staircase
from dsd_gym.config import ConfigError, build
from dsd_gym.hardware import TargetHardware, load_hardware, target_hardware
from dsd_gym.scenario import TargetClass
from dsd_gym.staircase import StaircaseCost, Staircases, load_staircases
from dsd_gym.target.cost import iteration_cost

TARGETS = list(load_hardware().targets.values())
by_name = pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
A100 = target_hardware("a100", "Llama-2-70b", 4)


def test_every_target_has_a_sourced_staircase() -> None:
    rows = load_staircases().rows
    assert set(rows) == {row.name for row in TARGETS}
    assert all("measured" in row.source and "Apache-2.0" in row.source for row in rows.values())


@by_name
def test_a_size_that_was_measured_costs_that_or_what_a_cheaper_larger_one_does(row: TargetHardware) -> None:
    table, cost = load_staircases(), StaircaseCost(row)
    figures = table.rows[row.name]
    measured = np.add(figures.kernels, figures.others)
    cheapest = np.minimum.accumulate(measured[::-1])[::-1]
    assert [cost.iteration_ms(tokens, 0, 0) for tokens in table.tokens] == pytest.approx(cheapest.tolist())
    assert np.all(cheapest > 0.88 * measured)


@by_name
def test_no_pass_is_cheaper_than_a_smaller_one_and_prices_add_up(row: TargetHardware) -> None:
    cost = StaircaseCost(row)
    times = [cost.iteration_ms(tokens, 0, 0) for tokens in range(9000)]
    assert np.all(np.diff(times) >= 0) and times[0] == times[1]
    for tokens, added in ((5, 4), (65, 1), (300, 200), (8192, 8192), (8500, 400)):
        assert cost.added_tokens_ms(tokens, added) == pytest.approx(times[tokens] - times[tokens - added])


@by_name
def test_the_smooth_fit_is_a_line_through_the_steps(row: TargetHardware) -> None:
    cost = StaircaseCost(row)
    sizes = range(1, 2049)
    ratios = [cost.iteration_ms(tokens, 0, 0) / row.iteration_ms(tokens, 0, 0) for tokens in sizes]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12) and min(ratios) > 0.7 and max(ratios) < 1.5


def test_a_token_is_free_within_a_tile_and_dear_at_its_edge() -> None:
    cost = StaircaseCost(A100)
    assert cost.added_tokens_ms(129, 1) > 10.0  # 38.5 ms for 128 tokens, 51.5 ms for 160
    for tokens in (100, 128, 150, 160, 256):
        assert cost.added_tokens_ms(tokens, 1) < 0.15  # all-reduce and elementwise kernels alone
    assert A100.added_tokens_ms(129, 1) == pytest.approx(A100.token_ms + A100.compute_ms)


def test_attention_is_that_of_the_fit() -> None:
    cost, linear_ms = StaircaseCost(A100), StaircaseCost(A100).iteration_ms(40, 0, 0)
    fitted = A100.iteration_ms(40, 8, 8000) - A100.iteration_ms(40, 0, 0)
    assert cost.iteration_ms(40, 8, 8000) - linear_ms == pytest.approx(fitted)
    assert cost.one_token_iteration_ms == cost.iteration_ms(1, 1, 0)


def test_a_target_runs_reports_and_prices_by_its_steps() -> None:
    bench, cost = Bench(row=A100, latency_model="staircase", draft_window=2), StaircaseCost(A100)
    for stream in range(32):
        bench.at(0.0, bench.target.verify, bench.request(stream), 3)
    bench.env.run(1000.0)
    assert bench.passes[0][1] == cost.iteration_ms(128, 32, 32 * 1025)
    verdict = bench.sent[0][0][1]
    assert verdict.report.marginal_ms_per_token == cost.added_tokens_ms(129, 1) > 10.0
    assert verdict.report.one_token_iteration_ms == cost.one_token_iteration_ms
    own_ms = A100.attention_sequence_ms + A100.attention_context_ms * 1025
    assert verdict.externality_ms == pytest.approx(31 * (cost.added_tokens_ms(128, 4) + own_ms))
    at_ms = bench.env.now
    bench.target.decode(bench.request(40, output=4))
    bench.env.run(at_ms + 500.0)
    assert bench.passes[1][1] - at_ms == pytest.approx(
        2 * cost.iteration_ms(1, 1, 1025) + cost.iteration_ms(3, 1, 1025)
    )


def test_the_smooth_fit_is_the_default() -> None:
    assert iteration_cost(TargetClass(), A100) is A100
    assert isinstance(iteration_cost(TargetClass(latency_model="staircase"), A100), StaircaseCost)


ROW = {"kernels": [1.0, 2.0], "others": [0.0, 0.1], "source": "measured"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [2, 4]}, "tokens must begin with 1 and increase"),
        ({"tokens": [1, 1]}, "tokens must begin with 1 and increase"),
        ({"tokens": [1, 2, 4]}, "a/b/tp1: kernels and others must have 3 figures"),
        ({"rows": {"a/b/tp1": ROW | {"kernels": [1.0, 0.0]}}}, "kernels.1: must be greater than 0"),
    ],
)
def test_a_faulty_table_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"x.yaml: .*{message}"):
        build(Staircases, {"tokens": [1, 2], "rows": {"a/b/tp1": ROW}} | change, source="x.yaml")


def test_a_missing_row_names_the_file_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "staircase.yaml"
    path.write_text(str({"tokens": [1, 2], "rows": {"a/b/tp1": ROW}}))
    monkeypatch.setattr(staircase, "STAIRCASE_FILE", path)
    monkeypatch.setattr(staircase, "load_staircases", load_staircases.__wrapped__)
    with pytest.raises(ConfigError, match=r"configs/staircase\.yaml: no row a100/.*; use latency_model: smooth"):
        staircase.staircase_ms.__wrapped__(A100.name)
