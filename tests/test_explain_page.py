"""The page about a policy, the script that makes it, and the tree that it leaves behind."""

import math
from pathlib import Path

import numpy as np
import pytest
from test_explain import FAR_MS, LIKELY, NEAR, make
from test_policies import make_policy
from test_policies_priced import make_priced
from test_policies_regressor import make_regressor

import evaluate
from agents import make_controller
from dsd_gym.comparison.statistics import Ratio
from dsd_gym.comparison.window_map import RTT_MS
from dsd_gym.explain import sides
from dsd_gym.explain.acts import ByTree
from dsd_gym.explain.crossover import Crossover, cloud_from, crossovers
from dsd_gym.explain.importance import Importance
from dsd_gym.explain.page import crossing, kept_by_hand
from dsd_gym.explain.runs import Work, run
from dsd_gym.explain.summary import matters, misread
from dsd_gym.priced_inputs import ASKED
from policies import load_policy, save_policy

YAML = """
warm_up_ms: 200
horizon_ms: 1500
drain_ms: 4000
workload: {rate_per_s: 6}
lengths: {prompt_mean: 50, prompt_median: 40, output_mean: 16, output_median: 16}
"""


def test_decisions_are_counted_by_where_the_request_is_and_what_the_cloud_costs() -> None:
    names = list(ASKED)
    asked, done = np.zeros((200, len(names))), np.full(200, 4)
    asked[:, names.index("cloud_over_edge_dear")] = 0.5 + 0.5 * math.log(0.72)
    asked[:80, names.index("cloud_mode")] = 1.0
    asked[80:180, names.index("has_last_confidence")] = 1.0
    done[:60] = done[80:90] = 0
    (side,) = (side for side in sides.counted(asked, done) if sum(side.counts))
    assert (side.low, side.high, side.counts, side.cloud_shares) == (0.7, 0.75, (100, 20, 80), (0.1, 0.0, 0.75))
    assert sides.table([side])[1] == ["0.7 to 0.75", "10 % of 100", "-", "75 % of 80"]


def test_the_cloud_decodes_from_the_first_round_trip_past_the_threshold() -> None:
    for found in crossovers("rule", make, 12):
        assert found.cloud_from_ms == next(ms for ms in RTT_MS if ms > FAR_MS)
        assert found.near == (8 if found.acceptance > LIKELY else 3)
    assert cloud_from([0] * len(RTT_MS)) == 0.0 and math.isinf(cloud_from([4] * len(RTT_MS)))
    assert crossing(Crossover(2, 0.7, 5.0, 4, 0.0)) == "cloud"
    assert crossing(Crossover(2, 0.7, 5.0, 4, math.inf)) == "4, edge up to 300 ms"


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the script on a policy that nobody trained, over a page that somebody had written into."""
    folder = tmp_path_factory.mktemp("explained")
    save_policy(make_policy(8), folder / "p.safetensors")
    (folder / "calm.yaml").write_text(YAML)
    (folder / "docs").mkdir()
    (folder / "docs/rule.md").write_text("old\n<!-- by hand -->\nFar away: the cloud.\n<!-- end -->\nold")
    calm, out, page = (str(folder / name) for name in ("calm.yaml", "out", "docs/rule.md"))
    where = ("--scenarios", calm, "--distil-in", calm, "--out", out, "--page", page)
    evaluate.main(["--explain", str(folder / "p.safetensors"), "--seeds", "1", "--jobs", "1", "--leaves", "5", *where])
    return folder


def test_explaining_leaves_a_page_with_pictures(explained: Path) -> None:
    names = {"rule.md", "rule_window_map.png", "rule_importance.png"}
    assert {path.name for path in (explained / "docs").iterdir()} == names
    page = (explained / "docs/rule.md").read_text()
    for text in ("# What p has learned", "](rule_window_map.png)", "| **round trip** (last_rtt_ms", "% of decisions)"):
        assert text in page
    assert "Far away: the cloud." in page and "old" not in page


def test_explaining_leaves_a_tree_that_is_a_policy_like_any(explained: Path) -> None:
    file = explained / "out/p_tree.safetensors"
    assert {path.name for path in file.parent.iterdir()} == {file.name, "evaluation.json"}
    policy = load_policy(file, max_window=12)
    assert policy.tree is not None and policy.tree.leaves <= 5
    assert policy.header.command.startswith("python evaluate.py --explain ")
    assert policy.header.evaluation["scenarios"] == ["calm"]
    assert policy.header.evaluation["latency_over_policy"]["estimate"] > 0.0
    (seen,) = run(Work([(NEAR, 0)], str(file), make_controller, ByTree(policy.tree), keep=100))
    assert seen.differing == 0 and len(seen.rows) == 100


def test_what_was_written_by_hand_is_found() -> None:
    assert kept_by_hand("# X\n<!-- by hand -->\nLike so.\n<!-- end -->\nrest") == "Like so."
    assert kept_by_hand("# X\n<!-- by hand -->\nnever ended") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "FOLDER/none.safetensors"], "none.safetensors: no such file"),
        (["--explain", "FOLDER/regressor"], "regressor: a regressor remembers"),
        (["--explain", "FOLDER/priced", "--leaves", "1"], "--leaves: a tree that asks anything has 2 or more"),
        (["--explain", "FOLDER/logits", "--controllers", "awc"], "--controllers has no meaning with --explain"),
        (["--explain", "FOLDER/logits", "--from", "x.json"], "--from has no meaning with --explain"),
        (["--explain", "FOLDER/logits", "--distil-in", "nowhere"], "nowhere: no such scenario"),
        (["--explain", "FOLDER/logits", "--scenarios", "held_out/overload"], "none of these scenarios is scored by it"),
        (["--explain", "FOLDER/logits", "--leaves", "1"], "--leaves: a tree that asks anything has 2 or more"),
        (["--leaves", "4"], "--leaves has a meaning only with --explain"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_policy(make_regressor(), tmp_path / "regressor")
    save_policy(make_policy(8), tmp_path / "logits")
    save_policy(make_priced(8), tmp_path / "priced")
    with pytest.raises(SystemExit) as ended:
        evaluate.main([*(text.replace("FOLDER", str(tmp_path)) for text in arguments), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_the_summary_tells_what_helps_from_what_harms() -> None:
    def one(name: str, changed: float, *latency: float) -> Importance:
        return Importance(name, (name,), False, changed, Ratio(*latency))

    assert matters(one("last_rtt_ms", 0.2, 1.05, 1.04, 1.06))
    assert not matters(one("last_rtt_ms", 0.2, 1.05, 0.99, 1.11)), "not surely"
    assert not matters(one("last_rtt_ms", 0.2, 1.01, 1.005, 1.015)), "not much"
    assert misread([one("a", 0.2, 0.98, 0.97, 0.99), one("b", 0.2, 0.98, 0.97, 1.01)]) == "`a` -2.0 % [-3.0, -1.0]"
