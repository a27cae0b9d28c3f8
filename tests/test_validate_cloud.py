"""Cloud mode against published measurements of a real engine."""

from __future__ import annotations

import pytest

from dsd_gym import validate_cloud
from dsd_gym.validate_cloud import MEASURED_TPOT_MS, TOLERANCE, USERS, cells, mean_absolute_error, table


@pytest.fixture(scope="module")
def points() -> list[validate_cloud.Cell]:
    return cells()


def test_tpot_is_within_six_percent_of_the_measured(points: list[validate_cloud.Cell]) -> None:
    assert len(points) == len(USERS) * len(MEASURED_TPOT_MS) == 15
    assert mean_absolute_error(points) < TOLERANCE == 0.06
    assert max(abs(cell.error) for cell in points) < 0.1


def test_tpot_rises_with_users_and_falls_with_output_as_the_measured_does(points: list[validate_cloud.Cell]) -> None:
    for attribute in ("measured_ms", "simulated_ms"):
        at = {(cell.output_tokens, cell.users): getattr(cell, attribute) for cell in points}
        assert all(at[tokens, 8] < at[tokens, 32] < at[tokens, 128] for tokens in MEASURED_TPOT_MS)
        assert all(at[128, users] > at[256, users] > at[512, users] for users in USERS)


def test_nothing_but_the_hardware_row_sets_what_a_pass_takes() -> None:
    target = validate_cloud.scenario(8, 128).targets[0]
    assert target.host_ms == 0.0 and target == type(target)("h100", "Llama-3.1-8B", 1)


def test_passes_too_small_to_serve_anybody_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        validate_cloud.main(["--max-batch-tokens", "13"])
    assert capsys.readouterr().err.startswith("error: --max-batch-tokens 13 is too few: no request arrived")


def test_table_gives_every_point_and_the_mean_error(points: list[validate_cloud.Cell]) -> None:
    lines = table(points, markdown=True).splitlines()
    assert len(lines) == 2 + 15 + 2 and all(line.count("|") == 6 for line in lines[:-2])
    assert f"{mean_absolute_error(points):.1%}" in lines[-1]
