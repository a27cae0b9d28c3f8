"""Cells that run side by side in the compiled twin: the rows are those of the SimPy simulator, to the last digit.

No tolerance is needed: both leave equal rounds, and the figures are computed from them by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agents import make_controller
from dsd_gym.comparison import groups
from dsd_gym.comparison.cells import Cell, run
from dsd_gym.comparison.compare import compare
from dsd_gym.comparison.groups import grouped, run_group
from dsd_gym.config import ConfigError
from dsd_gym.scenario import Acceptance, Admission, EdgeClass, Lengths, LinkSpec, Scenario, TargetClass, Workload

pytest.importorskip("numba")

POLICY = "policies/edge_cloud.safetensors"
TOGETHER = ["static:0", "static:4", "heuristic", "leviathan", "specdec", "turbospec", "table:vllm", POLICY]
QUIET = Scenario(
    name="quiet",
    edges=(EdgeClass("l40s/Llama-3.2-1B", 6), EdgeClass("jetson_orin_nano/135M", 3, link=LinkSpec(rtt_ms=40))),
    targets=(TargetClass("a100", "Llama-3.1-70B", 4, 2),),
    warm_up_ms=500.0,
    horizon_ms=4000.0,
    drain_ms=5000.0,
    workload=Workload(rate_per_s=6.0),
    lengths=Lengths(80, 60, 40, 30),
    acceptance=Acceptance(profile="chat"),
)
CROWDED = replace(QUIET, name="crowded", score="throughput", drain_ms=1.0, workload=Workload(rate_per_s=60.0))
CLOSED = replace(QUIET, name="closed", workload=Workload("closed", users=4, think_ms=100.0))
ONLY_SIMPY = replace(QUIET, name="only_simpy", admission=Admission("degrade"))


def cells_of(spec: str, scenarios: Sequence[Scenario] = (QUIET, CROWDED, CLOSED)) -> tuple[Cell, ...]:
    return tuple(Cell(scenario, spec, seed, seed == 0, make_controller) for scenario in scenarios for seed in range(2))


@pytest.mark.parametrize(
    "spec", [*TOGETHER, "awc", "awc-mlp", "average-reward", "sglang", "ucb"]
)
def test_rows_are_those_of_the_simulator(spec: str) -> None:
    cells = cells_of(spec)
    rows = run_group(cells)
    assert rows == [run(cell) for cell in cells]
    assert sum(row.series is not None for row in rows) == 3 and all(row.tpot_quantiles_ms for row in rows)
    assert {row.score for row in rows} == {"latency", "throughput"}


def test_groups_hold_every_cell_once_and_only_what_can_run_together() -> None:
    specs = ["static:1", "static:2", "awc", "oracle"]
    cells = [cell for spec in specs for cell in cells_of(spec, (QUIET, CROWDED, ONLY_SIMPY))]
    found = grouped(cells, jobs=1)
    told = [(cell.scenario.name, cell.controller, cell.seed) for group in found for cell in group]
    assert sorted(told) == sorted((cell.scenario.name, cell.controller, cell.seed) for cell in cells)
    for group in found:
        assert len({cell.controller for cell in group}) == 1
        if len(group) > 1:
            assert group[0].controller != "oracle" and not any(cell.scenario is ONLY_SIMPY for cell in group)
    assert max(map(len, found)) == 4


def test_there_are_groups_for_all_processes() -> None:
    cells = [Cell(QUIET, "static:1", seed, False, make_controller) for seed in range(64)]
    sizes = [len(group) for group in grouped(cells, jobs=2)]
    assert len(sizes) >= 2 * groups.PIECES and max(sizes) - min(sizes) <= 1


def test_without_numba_the_simulator_runs_every_cell_with_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = ["static:2", POLICY, "awc"]
    scenarios = [QUIET, ONLY_SIMPY]
    compiled = compare(scenarios, specs, range(2), make_controller, jobs=1)
    monkeypatch.setattr(groups, "find_spec", lambda name: None)
    assert all(len(group) == 1 for group in grouped(cells_of("static:2"), jobs=1))
    assert compare(scenarios, specs, range(2), make_controller, jobs=1).rows == compiled.rows


def test_progress_tells_the_cells_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(groups, "TOGETHER", 2)
    compare([QUIET, CLOSED], ["static:2"], range(3), make_controller, jobs=1, progress=lambda *done: told.append(done))
    assert told[0] == (0, 6) and told[-1] == (6, 6) and len(told) == 1 + 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_cell_without_a_scored_request_is_told_in_the_simulators_words() -> None:
    cells = cells_of("static:2", (replace(QUIET, horizon_ms=501.0, max_requests=1),))
    with pytest.raises(ConfigError) as simulated:
        run(cells[0])
    with pytest.raises(ConfigError) as compiled:
        run_group(cells[:1])
    assert str(compiled.value) == str(simulated.value)
