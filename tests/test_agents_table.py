"""Batch-size tables: their boundaries, their files, and what is refused."""

from pathlib import Path

import pytest
from observed import observed

from agents import make_controller
from agents.table import TABLE_FOLDER, BatchTable, Table, load_table
from dsd_gym.config import ConfigError


def window(spec: str, batch_size: int, max_window: int = 12) -> int:
    return make_controller(spec, max_window).decide(observed(batch_size=batch_size), 0).window


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("table:vllm", {0: 3, 1: 3, 64: 3, 65: 1, 128: 1, 129: 0, 512: 0, 1000: 0}),
        ("table:tensorrt", {0: 4, 1: 4, 4: 4, 5: 2, 8: 2, 9: 1, 32: 1, 33: 0, 1000: 0}),
        ("table:mlc", {0: 4, 1: 4, 9: 4, 10: 3, 19: 3, 20: 2, 29: 2, 30: 0, 1000: 0}),
    ],
)
def test_shipped_rules_change_where_their_engines_do(spec: str, expected: dict[int, int]) -> None:
    assert {batch: window(spec, batch) for batch in expected} == expected


def test_gaps_and_the_tail_carry_and_windows_are_clamped(tmp_path: Path) -> None:
    path = tmp_path / "gaps.yaml"
    path.write_text("num_speculative_tokens_per_batch_size: [[1, 16, 9], [32, 128, 2]]")
    assert [window(f"table:{path}", batch) for batch in (16, 17, 31, 32, 129)] == [9, 9, 9, 2, 2]
    assert window(f"table:{path}", 1, max_window=6) == 6


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("num_speculative_tokens_per_batch_size: [[2, 64, 3]]", "must start at batch size 1"),
        ("num_speculative_tokens_per_batch_size: [[1, 64, 3], [64, 128, 1]]", "must start after 64"),
        ("num_speculative_tokens_per_batch_size: [[1, 64, 3], [128, 70, 1]]", "runs backwards"),
        ("num_speculative_tokens_per_batch_size: []", "num_speculative_tokens_per_batch_size"),
        ("num_speculative_tokens_per_batch_size: [[1, 64, -1]]", "num_speculative_tokens_per_batch_size"),
        ("num_speculative_tokens_per_batch_size: [[1, 64]]", "num_speculative_tokens_per_batch_size"),
        ("num_speculative_tokens_per_batch_sise: [[1, 64, 3]]", "did you mean num_speculative_tokens_per_batch_size"),
        ("", "num_speculative_tokens_per_batch_size"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_file_and_fault(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=complaint.replace("[", r"\[")) as error:
        load_table(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_table_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"table:vlm: no such table.*vllm"):
        make_controller("table:vlm", 12)
    with pytest.raises(ConfigError, match="table:xyz: no such table") as error:
        make_controller("table:xyz", 12)
    assert all(name in str(error.value) for name in ("vllm", "tensorrt", "mlc", "tuned", "FILE.yaml"))
    with pytest.raises(ConfigError, match=r"missing.yaml: no such file"):
        make_controller("table:missing.yaml", 12)


def test_every_shipped_table_loads_and_says_what_made_it() -> None:
    files = sorted(TABLE_FOLDER.glob("*.yaml"))
    assert files
    for path in files:
        table = load_table(path.stem)
        assert table == load_table(str(path))
        assert f"--out configs/tables/{path.name}" in table.command


def test_a_table_sees_the_batch_alone() -> None:
    rule = Table(12, BatchTable(((1, 8, 5), (9, 16, 0))))
    slow = observed(batch_size=3, smoothed_rtt_ms=500.0, acceptance_estimate=0.1, cloud_mode=True)
    assert rule.decide(slow, 7).window == rule.decide(observed(batch_size=3), 0).window == 5
