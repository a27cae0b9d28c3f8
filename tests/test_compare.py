import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dsd_gym.comparison import cells
from dsd_gym.comparison.cells import Cell, CellCache
from dsd_gym.comparison.compare import compare
from dsd_gym.comparison.evaluation import OVERALL, Evaluation, load, save
from dsd_gym.comparison.tables import WIDTH, markdown_table, text_table
from dsd_gym.comparison.window_map import BATCH_SIZES, observation_at, window_maps
from dsd_gym.config import ConfigError
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from dsd_gym.scenario import Acceptance, Lengths, Scenario, Workload

TINY = Scenario(
    name="tiny",
    warm_up_ms=500.0,
    horizon_ms=3000.0,
    drain_ms=5000.0,
    max_window=5,
    workload=Workload(rate_per_s=4.0),
    lengths=Lengths(prompt_mean=50.0, prompt_median=40.0, output_mean=20.0, output_median=20.0),
    acceptance=Acceptance(profile="constant", probability=0.7),
)
OTHER = replace(TINY, name="other", acceptance=Acceptance(profile="constant", probability=0.9))
CROWDED = replace(TINY, name="crowded", score="throughput", drain_ms=1.0, workload=Workload(rate_per_s=40.0))


class Fixed:
    """Fixed windows, as `static:K`; `decaying` counts down, so it matters what it was asked before."""

    def __init__(self, window: int, step: int = 0) -> None:
        self.window, self.step = window, step

    def decide(self, observation: Observation, stream: int) -> Decision:
        self.window = max(self.window - self.step, 1) if self.step else self.window
        return Decision(self.window)

    def begin(self, stream: int, device: int, target: int) -> None: ...

    def record(self, round: Round) -> None: ...

    def forget(self, stream: int) -> None: ...


def make(spec: str, max_window: int) -> Fixed:
    if spec == "decaying":
        return Fixed(max_window, 1)
    if not spec.startswith("static:"):
        raise ConfigError(f"{spec}: unknown controller")
    return Fixed(int(spec.removeprefix("static:")))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    specs = ["static:2", "static:best", "decaying"]
    return compare([TINY, OTHER, CROWDED], specs, range(4), make, jobs=1, map_controllers=["decaying"])


def test_there_is_a_row_for_every_cell_in_order(evaluation: Evaluation) -> None:
    ran = [(row.scenario, row.controller, row.seed) for row in evaluation.rows]
    names, specs = ("tiny", "other", "crowded"), ("static:2", "static:best", "decaying")
    assert ran == [(name, spec, seed) for name in names for spec in specs for seed in range(4)]
    assert all(row.decisions > 0 for row in evaluation.rows)
    assert [row.series is not None for row in evaluation.rows[:4]] == [True, False, False, False]


def test_every_controller_meets_the_same_requests(evaluation: Evaluation) -> None:
    for scenario in evaluation.scores:
        for seed in range(4):
            rows = [row for row in evaluation.rows if (row.scenario, row.seed) == (scenario, seed)]
            assert len({row.metrics["scored_requests"] for row in rows}) == 1


def test_the_best_static_window_is_no_worse_than_any_other() -> None:
    every = [f"static:{window}" for window in range(6)]
    found = compare([TINY, CROWDED], [*every, "static:best"], range(2), make, jobs=1)
    for scenario, metric, best in (
        ("tiny", "normalised_latency_ms", min),
        ("crowded", "throughput_tokens_s", max),
    ):
        means = [found.mean(scenario, spec, metric) for spec in every]
        assert found.mean(scenario, "static:best", metric) == best(means)
        assert {row.window for row in found.cell(scenario, "static:best")} == {means.index(best(means))}


def test_processes_change_nothing_but_the_time() -> None:
    alone = compare([TINY], ["static:2", "decaying"], [7, 3], make, jobs=1)
    assert compare([TINY], ["static:2", "decaying"], [7, 3], make, jobs=2) == alone


def test_controllers_are_fresh_in_every_cell() -> None:
    both = compare([TINY], ["decaying"], [0, 1], make, jobs=1)
    assert compare([TINY], ["decaying"], [1], make, jobs=1).rows[0].metrics == both.rows[1].metrics


def test_differences_are_paired_with_the_reference(evaluation: Evaluation) -> None:
    assert evaluation.reference == "static:2"
    for scenario in (*evaluation.scores, OVERALL):
        assert evaluation.summaries[scenario, "static:2"].ratio == (1.0, 1.0, 1.0)
    values = evaluation.values("tiny", "decaying", "normalised_latency_ms")
    reference = evaluation.values("tiny", "static:2", "normalised_latency_ms")
    logs = [math.log(value / base) for value, base in zip(values, reference, strict=True)]
    assert evaluation.summaries["tiny", "decaying"].ratio.estimate == pytest.approx(math.exp(sum(logs) / 4))


def test_the_overall_mean_leaves_out_what_is_scored_by_throughput(evaluation: Evaluation) -> None:
    ratios = {name: evaluation.summaries[name, "decaying"].ratio.estimate for name in ("tiny", "other")}
    overall = evaluation.summaries[OVERALL, "decaying"]
    assert overall.ratio.estimate == pytest.approx(math.sqrt(ratios["tiny"] * ratios["other"]))
    means = [evaluation.mean(name, "decaying", "normalised_latency_ms") for name in ("tiny", "other")]
    assert overall.mean == pytest.approx(math.sqrt(means[0] * means[1]))


def test_an_evaluation_survives_its_file(evaluation: Evaluation, tmp_path: Path) -> None:
    save(evaluation, tmp_path / "evaluation.json")
    assert load(tmp_path / "evaluation.json") == evaluation
    data = json.loads((tmp_path / "evaluation.json").read_text())
    assert data["rows"][0]["metrics"]["normalised_latency_ms"] > 0
    assert {entry["scenario"] for entry in data["summary"]} == {"tiny", "other", "crowded", OVERALL}


def test_the_table_shows_what_was_left_behind_and_keeps_its_width(evaluation: Evaluation) -> None:
    text = text_table(evaluation)
    assert max(map(len, text.splitlines())) <= WIDTH
    left = evaluation.summaries["crowded", "static:2"].unfinished
    assert left > 0 and f"{left} unfin." in text and f"{left} / 0" in text
    for words in ("(k=", "geometric mean", "95 % intervals", "4 seeds", "Cap: none", "req/s", "0 / 0"):
        assert words in text
    rows = [line for line in markdown_table(evaluation).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}


def test_many_controllers_make_more_blocks(evaluation: Evaluation) -> None:
    wide = [
        replace(row, controller=f"{row.controller} with a long name {copy}")
        for row in evaluation.rows
        for copy in range(4)
    ]
    many = replace(evaluation, rows=tuple(wide), reference=wide[0].controller)
    text = text_table(many)
    assert max(map(len, text.splitlines())) <= WIDTH
    lines = [line for line in markdown_table(many).splitlines() if line.startswith("|")]
    assert lines[0] == "| controller | tiny | other | geometric mean | unfinished / rejected |"
    assert sum(line.startswith(f"| {wide[0].controller} |") for line in lines) == 2  # latency and throughput
    assert text.count("geometric mean") > 2


def test_a_cap_on_requests_holds_for_every_cell() -> None:
    capped = compare([TINY], ["static:2", "static:0"], [0], make, jobs=1, max_requests=6)
    assert all((row.metrics["scored_requests"] or 0) <= 6 for row in capped.rows)
    assert "at most 6 requests a cell" in text_table(capped)


def test_the_cache_returns_what_was_run_and_misses_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, cell = CellCache(tmp_path), Cell(TINY, "static:2", 0, False, make)
    assert cache.get(cell) is None
    row = cells.run(cell)
    cache.put(cell, row)
    assert cache.get(cell) == row
    for other in (
        replace(cell, seed=1),
        replace(cell, controller="static:3"),
        replace(cell, with_series=True),
        replace(cell, scenario=OTHER),
        replace(cell, controller="decaying"),
    ):
        assert cache.get(other) is None
    monkeypatch.setattr(cells, "simulator_hash", lambda: "changed")
    assert cache.get(cell) is None


def test_a_damaged_cache_is_run_again(tmp_path: Path) -> None:
    first = compare([TINY], ["static:2", "static:3"], [0], make, jobs=1, cache_folder=tmp_path)
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == 2
    files[0].write_text("{")
    assert compare([TINY], ["static:2", "static:3"], [0], make, jobs=1, cache_folder=tmp_path) == first


@pytest.mark.parametrize(
    ("scenarios", "specs", "seeds", "message"),
    [
        ([], ["static:2"], [0], "no scenarios"),
        ([TINY], [], [0], "no controllers"),
        ([TINY], ["static:2"], [], "no seeds"),
        ([TINY, TINY], ["static:2"], [0], "two scenarios are named tiny"),
        ([TINY], ["static:2", "magic"], [0], "magic: unknown controller"),
        ([replace(TINY, horizon_ms=501.0)], ["static:2"], [0], "tiny, seed 0: no request arrived"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    scenarios: list[Scenario], specs: list[str], seeds: list[int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(scenarios, specs, seeds, make, jobs=1)


def test_a_reference_that_was_not_asked_for_is_run_too() -> None:
    found = compare([TINY], ["decaying"], [0], make, jobs=1, reference="static:1")
    assert found.controllers == ["static:1", "decaying"]


def test_maps_cover_three_loads_and_their_observations_are_consistent() -> None:
    maps = list(window_maps("static:3", make, 5))
    assert [found.batch_size for found in maps] == list(BATCH_SIZES)
    assert {window for found in maps for row in found.windows for window in row} == {3}
    light, heavy = observation_at(20.0, 0.7, 2), observation_at(20.0, 0.7, 96)
    assert (
        heavy.iteration_ms > light.iteration_ms and heavy.marginal_ms_per_token > light.marginal_ms_per_token
    )
    assert light.iteration_ms > light.one_token_iteration_ms
