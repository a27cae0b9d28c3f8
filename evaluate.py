"""Compare controllers on the same luck: one table with intervals, plots, a page to read, and evaluation.json.

python evaluate.py --scenarios held_out --controllers static:4 static:best awc --seeds 5 --out runs/comparison
python evaluate.py --from runs/comparison/evaluation.json --report
python evaluate.py --explain policies/edge_cloud.safetensors
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agents import make_controller
from dsd_gym.comparison.compare import compare
from dsd_gym.comparison.evaluation import Evaluation, load, save
from dsd_gym.comparison.parallel import cpu_count
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.comparison.report.page import write_report
from dsd_gym.comparison.tables import markdown_table, text_table
from dsd_gym.config import ConfigError, did_you_mean, parse_assignments
from dsd_gym.files import Parser, check_writable, exits_cleanly, whole_number, write_atomically
from dsd_gym.scenario_files import load_scenarios
from dsd_gym.window_tree import WindowTree
from policies import REGRESSOR, STACKED, Policy, PolicyError, load_policy, save_policy, tree_policy

DEFAULT_OUT = Path("runs/evaluation")
SEEDS = 5
EXPLAIN_SEEDS, LEAVES, DISTIL_IN = 4, 16, "train/broad"
NOT_EXPLAINED = ("controllers", "reference", "ray", "max_requests", "source", "report")
SWEEP_CACHE = Path("runs/cache/static_best")
MAPPED = ("awc", "leviathan")


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Run or reload a comparison; print its table and write everything to the output folder."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.explain:
        _explain(options, f"python evaluate.py {shlex.join(arguments)}")
        return
    _refuse(options, ("leaves", "distil_in", "page"), "has a meaning only with --explain")
    if options.source:
        evaluation, out, written = _reload(options), options.out or options.source.parent, []
        check_writable(out)
    else:
        out = options.out or DEFAULT_OUT
        evaluation = _run(options, out, f"python evaluate.py {shlex.join(arguments)}")
        save(evaluation, out / "evaluation.json")
        written = ["evaluation.json"]
    print(text_table(evaluation))
    write_atomically(out / "table.md", markdown_table(evaluation))
    written += ["table.md", *_draw(evaluation, out)]
    if options.report:
        written.append(write_report(evaluation, out / "report.html").name)
    print(f"{out}: {', '.join(written)}")


def _run(options: argparse.Namespace, out: Path, command: str) -> Evaluation:
    scenarios = load_scenarios(options.scenarios, parse_assignments(options.set))
    check_writable(out)
    mapped = [spec for spec in options.controllers if spec in MAPPED or spec.endswith(".safetensors")]
    with progress_bar() as progress:
        return compare(
            scenarios,
            options.controllers,
            range(options.seeds or SEEDS),
            make_controller,
            reference=options.reference,
            jobs=options.jobs,
            ray_address=options.ray,
            max_requests=options.max_requests,
            cache_folder=SWEEP_CACHE,
            map_controllers=mapped,
            command=command,
            progress=progress,
        )


def _reload(options: argparse.Namespace) -> Evaluation:
    """Load what was run before; it may be set against another reference, but not run otherwise."""
    simulated = ("scenarios", "controllers", "seeds", "jobs", "ray", "max_requests", "set")
    _refuse(options, simulated, "changes what is simulated; --from only redraws")
    evaluation = load(options.source)
    reference = options.reference or evaluation.reference
    if reference not in evaluation.controllers:
        known = did_you_mean(reference, evaluation.controllers)
        raise ConfigError(f"{options.source}: no rows of {reference}{known}")
    return replace(evaluation, reference=reference)


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise ConfigError if an option is given that has no meaning beside others."""
    for name in names:
        if getattr(options, name) != _parser().get_default(name):
            raise ConfigError(f"{'--from' if name == 'source' else '--' + name.replace('_', '-')} {why}")


def _explain(options: argparse.Namespace, command: str) -> None:
    """Tell what a policy has learned: a page with pictures, and a tree that stands in for it as a policy file."""
    _refuse(options, NOT_EXPLAINED, "has no meaning with --explain")
    if options.leaves == 1:
        raise ConfigError("--leaves: a tree that asks anything has 2 or more")
    policy = _explainable(options.explain)
    from dsd_gym.explain.distil import deployments
    from dsd_gym.explain.explanation import Question, explain
    from dsd_gym.explain.page import write_page

    out = options.out or Path("runs/explain") / options.explain.stem
    scenarios = load_scenarios(options.scenarios, parse_assignments(options.set))
    page_file = options.page or out / "explain.md"
    check_writable(out)
    check_writable(page_file.parent)
    tree_file = out / f"{options.explain.stem}_tree.safetensors"

    def save_tree(tree: WindowTree, evaluation: dict[str, Any]) -> str:
        save_policy(tree_policy(policy, tree, command, evaluation), tree_file)
        return str(tree_file)

    fit_in = options.distil_in or DISTIL_IN
    with progress_bar() as progress:
        asked = Question(
            str(options.explain),
            scenarios,
            range(options.seeds or EXPLAIN_SEEDS),
            make_controller,
            deployments(fit_in),
            fit_in,
            options.leaves or LEAVES,
            options.jobs or cpu_count(),
            command,
            progress,
        )
        found = explain(asked, save_tree)
    save(found.evaluation, out / "evaluation.json")
    write_page(found, page_file, with_pictures=_can_draw())
    print(page_file.read_text(encoding="utf-8"))
    print(f"{out}: {tree_file.name}, evaluation.json; {page_file}")


def _explainable(path: Path) -> Policy:
    """Return the policy in a file; ConfigError where its decisions depend on more than the observation."""
    try:
        policy = load_policy(path)
    except PolicyError as error:
        raise ConfigError(str(error)) from None
    if policy.header.kind in (REGRESSOR, STACKED):
        raise ConfigError(f"{path}: a {policy.header.kind} remembers; only decisions on one observation are explained")
    return policy


def _draw(evaluation: Evaluation, out: Path) -> list[str]:
    if not _can_draw():
        return []
    from dsd_gym.comparison.plots import draw_all

    return [path.name for path in draw_all(evaluation, out)]


def _can_draw() -> bool:
    if find_spec("matplotlib") is None:
        print("no plots: matplotlib is not installed (it comes with the extra `train`)", file=sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="evaluate.py", description="Compare controllers on the same luck.")
    add = parser.add_argument
    add(
        "--scenarios",
        nargs="+",
        default=["held_out"],
        help="names, YAML files or folders (default: held_out)",
    )
    add(
        "--controllers",
        nargs="+",
        default=["static:4", "heuristic", "leviathan", "awc"],
        help="static:K, static:best (from a sweep), heuristic, leviathan, awc, oracle, FILE.safetensors",
    )
    add("--seeds", type=whole_number, help="how many; the same for all (default: 5; with --explain 4)")
    add("--out", type=Path, help=f"folder for all that is written (default: {DEFAULT_OUT})")
    add(
        "--reference",
        help="what differences are taken against (default: static:4, else the first controller)",
    )
    add("--jobs", type=whole_number, help="processes (default: one a processor)")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster to simulate on: auto, HOST:PORT or ray://HOST:PORT")
    add("--max-requests", type=whole_number, help="cap on the requests of each cell (default: none)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change every scenario")
    add("--report", action="store_true", help="also write report.html, one page that needs no network")
    add(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="redraw an evaluation.json; nothing is simulated",
    )
    add("--explain", type=Path, metavar="POLICY", help="tell what a policy has learned, in a page with pictures")
    add("--leaves", type=whole_number, help="with --explain: of the tree distilled from it, at most (default: 16)")
    add("--distil-in", metavar="NAME", help=f"with --explain: family, scenario or folder to fit it in ({DISTIL_IN})")
    add("--page", type=Path, metavar="FILE", help="with --explain: the page (default: explain.md in --out)")
    return parser


if __name__ == "__main__":
    main()
