"""The tool that fills a table from batch size to window: by hand, and in a tiny deployment from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
from observed import observed

from agents import make_controller, tune_table
from agents.table import load_table
from agents.tune_sweep import LAST_BATCHES, Sweep, outcome, sweep
from agents.tune_sweep import Run as SweepRun
from agents.tune_table import deployments, for_vllm, main


def by_hand(*rows: tuple[list[float], dict[int, float]], windows: tuple[int, ...] = (0, 4, 8)) -> Sweep:
    """Return a sweep from (latency of each window, share of batches by the last size of its range)."""
    shares = np.array([[share.get(last, 0.0) for last in LAST_BATCHES] for _, share in rows])
    return Sweep(windows, np.array([latencies for latencies, _ in rows]), shares)


def test_a_range_gets_the_window_that_was_best_where_it_occurred() -> None:
    swept = by_hand(([30.0, 20.0, 10.0], {1: 1.0}), ([10.0, 20.0, 30.0], {64: 1.0}))
    assert np.exp(swept.regret()[0]) == pytest.approx([3.0, 2.0, 1.0])
    table = swept.table()
    assert table.num_speculative_tokens_per_batch_size == ((1, 32, 8), (33, 1024, 0)), "gaps and the tail carry"


def test_the_first_known_window_reaches_down_to_one() -> None:
    assert by_hand(([20.0, 10.0, 30.0], {8: 1.0})).table().num_speculative_tokens_per_batch_size == ((1, 1024, 4),)


def test_deployments_count_by_their_share_of_a_range() -> None:
    """Batches of 2: 8 is 10 % better in one deployment, 0 is 30 % better in the other, which has a fifth of them."""
    fast, slow = [1.1, 1.2, 1.0], [1.0, 1.2, 1.3]
    assert by_hand((fast, {2: 1.0}), (slow, {2: 0.2, 64: 0.8})).table().num_speculative_tokens_per_batch_size[0][2] == 8
    assert by_hand((fast, {2: 0.2, 64: 0.8}), (slow, {2: 1.0})).table().num_speculative_tokens_per_batch_size[0][2] == 0


def test_a_deployment_counts_by_ratios_and_not_by_ms() -> None:
    slow_but_indifferent = ([1000.0, 1010.0, 1020.0], {1: 1.0})
    assert by_hand(slow_but_indifferent, ([12.0, 11.0, 10.0], {1: 1.0})).table().num_speculative_tokens_per_batch_size[
        0
    ] == (1, 1024, 8)


def test_a_range_that_hardly_occurred_is_not_judged() -> None:
    rows = ([30.0, 20.0, 10.0], {1: 0.99, 16: 0.01})
    assert np.isnan(by_hand(rows).regret()[LAST_BATCHES.index(16)]).all()


def test_outcomes_put_every_committed_token_in_a_range() -> None:
    (scenario,) = deployments(["train/single"], [0.2], 1, 0)
    result = outcome(SweepRun(scenario, 0, 4))
    assert result.latency_ms > 0.0 and sum(result.tokens) > 500
    assert sweep([scenario], (4,), 0, jobs=1).shares.sum() == pytest.approx(1.0)


def test_a_tiny_sweep_writes_a_table_that_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    swept = ["--scenarios", "train/single", "--loads", "0.05", "0.9", "--windows", "0", "4", "--jobs", "1"]
    main([*swept, "--out", str(path)])
    printed = capsys.readouterr().out
    table = load_table(str(path))
    assert table.command.startswith("python -m agents.tune_table --scenarios train/single")
    assert json.loads(for_vllm(table))["num_speculative_tokens_per_batch_size"] == [
        list(row) for row in table.num_speculative_tokens_per_batch_size
    ]
    assert for_vllm(table) in printed and "k=4" in printed
    for first, last, window in table.num_speculative_tokens_per_batch_size:
        for batch_size in (first, last):
            rule = make_controller(f"table:{path}", 12)
            assert rule.decide(observed(batch_size=batch_size), 0).window == window


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--windows", "13"], "--windows must lie between 0 and 12"),
        (["--loads", "0"], "--loads: expected a number above 0, got '0'"),
        (["--scenarios", "train/singel"], "no such scenario"),
    ],
)
def test_a_wrong_call_ends_in_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.yaml"
    given = ["--scenarios", "train/single", "--loads", "0.1", *arguments, "--out", str(path)]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2 and complaint in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("out", ["a_file/mine.yaml", "a_folder"])
def test_where_nothing_can_be_written_is_told_before_the_sweep(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder").mkdir()
    monkeypatch.setattr(tune_table, "sweep", lambda *_: pytest.fail("swept"))
    with pytest.raises(SystemExit, match="2"):
        main(["--scenarios", "train/single", "--out", str(tmp_path / out)])
    assert out.split("/")[0] in capsys.readouterr().err
