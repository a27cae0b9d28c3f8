import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_policies import make_policy

from policies import FORMAT_VERSION, Policy, load_policy, save_policy


def inspect(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "policies.inspect", *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    save_policy(make_policy(64, 64), tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def test_prints_where_a_policy_came_from(policy_file: Path) -> None:
    result = inspect(policy_file)
    assert (result.returncode, result.stderr) == (0, "")
    for text in (
        str(policy_file),
        f"{policy_file.stat().st_size:,} bytes",
        f"dsd-gym 0.1.0, format {FORMAT_VERSION}",
        "python train.py configs/train/small.yaml",
        "0123abcd",
        "tanh, 6,669 parameters",
        "25 -> 64, 1,664 parameters",
        "64 -> 13, 845 parameters",
        "[5, 200]",
    ):
        assert text in result.stdout
    assert "logits: an observation in" in result.stdout
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["max", "window", "12"] in words and ["seed", "7"] in words
    assert ["last_rtt_ms", "0", "..", "4000", "ms"] in words
    assert ["relative_latency", "0.93"] in words
    assert ["ppo.learning_rate", "0.0003"] in words


def test_json_holds_the_whole_header(policy_file: Path) -> None:
    result = inspect(policy_file, "--json")
    assert result.returncode == 0
    printed = json.loads(result.stdout)
    header = load_policy(policy_file).header
    assert printed["command"] == header.command
    assert printed["feature_names"] == list(header.feature_names)
    assert printed["evaluation"] == header.evaluation
    assert printed["widths"] == [25, 64, 64, 13]
    assert (printed["parameters"], printed["file_bytes"]) == (6669, policy_file.stat().st_size)


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_file_that_is_no_policy_ends_in_one_line_and_exit_code_2(tmp_path: Path, flags: tuple[str]) -> None:
    (tmp_path / "p.zip").write_bytes(b"PK\x03\x04 and so on")
    for path in (tmp_path / "p.zip", tmp_path / "missing"):
        result = inspect(path, *flags)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {path}: ") and result.stderr.count("\n") == 1


def test_no_file_is_a_usage_error() -> None:
    result = inspect()
    assert result.returncode == 2 and "usage: python -m policies.inspect" in result.stderr


def test_a_hostile_header_cannot_steer_the_terminal(policy_file: Path) -> None:
    policy = load_policy(policy_file)
    hostile = replace(
        policy.header, command="\x1b[2Jrm\n\ud800", scenario_ranges={}, evaluation={"a\x1b": {}}
    )
    save_policy(Policy(hostile, policy.layers), policy_file)
    result = inspect(policy_file)
    assert result.returncode == 0
    assert (
        "\x1b" not in result.stdout and "\\x1b[2Jrm\\n\\ud800" in result.stdout and "(none)" in result.stdout
    )


def test_a_terminal_without_unicode_is_served(policy_file: Path) -> None:
    policy = load_policy(policy_file)
    save_policy(Policy(replace(policy.header, command="trainé 模型"), policy.layers), policy_file)
    result = inspect(policy_file, PYTHONIOENCODING="ascii")
    assert result.returncode == 0 and "train\\xe9" in result.stdout
