"""Recorded workloads: three formats, their mistakes, and a replay."""

from dataclasses import replace
from pathlib import Path

import pytest

from agents import make_controller
from dsd_gym.config import ConfigError
from dsd_gym.metrics import summarise
from dsd_gym.scenario import Lengths, Scenario, Workload
from dsd_gym.scenario_files import load_scenario
from dsd_gym.simulator import simulate
from dsd_gym.traces import TraceRow, read_trace
from dsd_gym.workload import Population

SAMPLE = Path(__file__).resolve().parents[1] / "configs" / "traces" / "sample_azure.csv"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE = HEADER + "2026-01-01 00:00:01.2500000,100,20\n2026-01-01 00:00:00.0000000,300,7\n"
DSDSIM = (
    '{"request_id": 1, "arrival_ms": 500.0, "prompt_tokens": 300, "target_tokens": 7, "slo_class": "x"}\n\n'
    '{"request_id": 2, "arrival_ms": 1750, "prompt_tokens": 100, "target_tokens": 20, "slo_class": "x"}\n'
)
MOONCAKE = (
    '{"timestamp": 1750, "input_length": 100, "output_length": 20, "hash_ids": [1, 2]}\n'
    '{"timestamp": 500, "input_length": 300, "output_length": 7, "hash_ids": [1]}\n'
)


def written(folder: Path, text: str, name: str = "trace.txt") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def replayed(path: str | Path, lengths: Lengths | None = None, rate_scale: float = 1.0) -> Scenario:
    workload = Workload(kind="trace", trace=str(path), rate_scale=rate_scale)
    return Scenario(workload=workload, lengths=lengths or Lengths(), warm_up_ms=0.0)


@pytest.mark.parametrize(("trace_format", "text"), [("azure", AZURE), ("dsdsim", DSDSIM), ("mooncake", MOONCAKE)])
def test_formats_are_told_apart_and_read_in_order_of_arrival(tmp_path: Path, trace_format: str, text: str) -> None:
    expected = (TraceRow(0.0, 300, 7), TraceRow(1250.0, 100, 20))
    assert read_trace(written(tmp_path, text)) == expected
    assert read_trace(written(tmp_path, text, "named.txt"), trace_format) == expected


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (HEADER + "2026-01-01 00:00:00.0,5,5\n2026-01-01 00:00:01.0,five,5\n", 3, "five"),
        (HEADER + "yesterday,5,5\n", 2, "yesterday"),
        (HEADER + "\n2026-01-01 00:00:00.0,,5\n", 3, "not a request"),
        (HEADER + "2026-01-01 00:00:00.0,5,-1\n", 2, "negative"),
        (HEADER + "2026-01-01 00:00:00.0,5\n", 2, "not a request"),
        ('{"arrival_ms": 1, "prompt_tokens": 1, "target_tokens": 1}\n{"arrival_ms": 2}\n', 2, "prompt_tokens"),
        ('{"arrival_ms": 1, "prompt_tokens": 1, "target_tokens": 1}\n\n{"arrival_ms"\n', 3, "not a request"),
        ('{"timestamp": 1, "input_length": 1, "output_length": null}\n', 1, "not a request"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1e999}\n', 1, "not a request"),
        ('{"timestamp": NaN, "input_length": 1, "output_length": 1}\n', 1, "finite"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_trace(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert what in str(error.value)


@pytest.mark.parametrize(
    ("text", "what"), [("", "not an Azure"), ("a,b,c\n1,2,3\n", "not an Azure"), (HEADER, "no requests")]
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        read_trace(written(tmp_path, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.csv: no such trace"):
        read_trace(str(tmp_path / "nowhere.csv"))
    binary = tmp_path / "trace.bin"
    binary.write_bytes(b"ContextTokens\n\xff\xfe\x00\n")
    with pytest.raises(ConfigError, match="not a text file"):
        read_trace(str(binary))


def test_rate_scale_shortens_every_gap(tmp_path: Path) -> None:
    path = written(tmp_path, AZURE)
    arrivals = [a.arrival_ms for a in Population(replayed(path, rate_scale=2.5), 0).arrivals()]
    assert arrivals == [0.0, 500.0]


def test_lengths_are_clipped_to_the_scenarios_limits(tmp_path: Path) -> None:
    path = written(tmp_path, AZURE + "2026-01-01 00:00:02.0000000,50,0\n")
    arrivals = list(Population(replayed(path, Lengths(max_prompt=200, max_output=10)), 0).arrivals())
    assert [a.prompt_tokens for a in arrivals] == [200, 100, 50]
    assert [a.output_tokens for a in arrivals] == [7, 10, 1], "everybody gets at least one token"


def test_the_sample_has_the_statistics_it_was_drawn_with() -> None:
    """Exponential gaps of mean 0.4 s, log-normal lengths of medians 300 and 100 and sigmas .7 and .6.

    Drawn with numpy's default_rng(0), gaps, prompts and outputs in turn; three standard errors are allowed.
    """
    rows = read_trace(str(SAMPLE))
    assert len(rows) == 200
    assert rows[-1].arrival_ms / 199 == pytest.approx(400.0, abs=3 * 400.0 / 199**0.5)
    assert sorted(r.prompt_tokens for r in rows)[100] == pytest.approx(300, rel=3 * 1.2533 * 0.7 / 200**0.5)
    assert sorted(r.output_tokens for r in rows)[100] == pytest.approx(100, rel=3 * 1.2533 * 0.6 / 200**0.5)


def test_a_trace_replaces_the_load_of_a_held_out_deployment() -> None:
    overrides = {"workload.kind": "trace", "workload.trace": str(SAMPLE), "workload.rate_scale": 4, "max_requests": 30}
    scenario = load_scenario("held_out/metro_wifi", overrides)
    scenario = replace(scenario, warm_up_ms=0.0)
    records = simulate(scenario, make_controller("static:4", scenario.max_window), 0)
    rows = read_trace(str(SAMPLE))[:30]
    arrived = sorted(records.requests, key=lambda request: request.stream)
    assert [r.arrival_ms for r in arrived] == pytest.approx([row.arrival_ms / 4 for row in rows])
    assert [r.output_tokens for r in arrived] == [row.output_tokens for row in rows]
    assert summarise(records)["finished"] == 30
