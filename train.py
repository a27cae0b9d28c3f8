"""Train a window controller: a config in; a policy, its held-out comparison and its logs out.

python train.py                                            the default config, some five minutes
python train.py configs/train/smoke.yaml seed=1            another config, with a value changed by its dotted key
python train.py configs/train/awc_mlp.yaml                 the DSD paper's supervised window predictor, half an hour
python train.py scenario.link.rtt_ms=80 name=far           a changed training scenario
python train.py --resume                                   go on where the last run was stopped
python train.py --workers 4                                collect in four processes, learn in this one
python train.py --ray auto                                 collect on a Ray cluster (extra `ray`), learn here
tensorboard --logdir runs                                  watch
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import make_controller
from agents.checkpoint import decisions_done
from agents.shares import shares
from agents.train_config import AnyConfig, AwcMlpConfig, TrainConfig, load_train_config, longest_window, scenario_ranges
from dsd_gym import config
from dsd_gym.comparison.compare import checked, compare
from dsd_gym.comparison.evaluation import OVERALL, Evaluation, save
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.comparison.tables import text_table
from dsd_gym.config import ConfigError, parse_assignments
from dsd_gym.files import Parser, check_writable, exits_cleanly, whole_number, write_atomically
from dsd_gym.scenario_files import load_scenarios
from policies import Policy, save_policy

if TYPE_CHECKING:
    from agents.ppo import StreamPPO
    from agents.training import OpenWorkers

RUNS = Path("runs")
POLICIES = Path(__file__).resolve().parent / "policies"
SWEEP_CACHE = RUNS / "cache" / "static_best"

Exporter = Callable[[str, dict[str, Any] | None], Policy]
"""What was trained, as a policy: of the command that made it and its held-out evaluation."""


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export, compare."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_intermixed_args(arguments)
    files = [item for item in options.items if "=" not in item]
    if len(files) > 1:
        raise ConfigError(f"{files[1]}: one config at a time; overrides are key=value")
    chosen = load_train_config(*files[:1] or [None], parse_assignments([i for i in options.items if "=" in i]))
    _check_comparison(chosen)
    _check_workers(chosen, options.workers, options.ray)
    if options.dry_run:
        print(config.dump_yaml(chosen), end="")
        return
    folder = RUNS / chosen.name
    command = f"python train.py {shlex.join(a for a in arguments if a != '--resume')}".strip()
    _prepare(folder, chosen, options.resume)
    exporter = _train(chosen, folder, options)
    _finish(exporter, chosen, folder, command)


def _check_comparison(chosen: AnyConfig) -> None:
    """Find what the comparison at the end would stumble over before any work is done."""
    max_window, asked = longest_window(chosen), chosen.comparison
    scenarios = load_scenarios(asked.scenarios, {})
    for scenario in scenarios:
        if scenario.max_window < max_window:
            raise ConfigError(f"{scenario.name}: serves windows to {scenario.max_window}, training to {max_window}")
    try:
        checked(scenarios, asked.controllers, range(asked.seeds), make_controller, asked.max_requests)
    except ConfigError as error:
        raise ConfigError(f"{chosen.name}: comparison: {error}") from None


def _check_workers(chosen: AnyConfig, workers: int | None, ray_address: str | None) -> None:
    if isinstance(chosen, TrainConfig):
        shares(chosen.ppo.n_envs, workers or 1)
    elif workers or ray_address is not None:
        raise ConfigError(f"{chosen.name}: --workers and --ray are for PPO (learner: ppo)")


def _train(chosen: AnyConfig, folder: Path, options: argparse.Namespace) -> Exporter:
    """Train in the way that the config's `learner` names; stopped early, it leaves what --resume goes on from."""
    if isinstance(chosen, AwcMlpConfig):
        from agents.awc_mlp_training import train

        return train(chosen, folder, options.resume)
    return _exporter(_train_ppo(chosen, folder, options), chosen)


def _train_ppo(chosen: TrainConfig, folder: Path, options: argparse.Namespace) -> StreamPPO:
    """Run the learner to its last decision."""
    print(f"{chosen.name}: importing torch and stable-baselines3 ...", file=sys.stderr)
    from agents.training import learn

    start = decisions_done(folder) if options.resume else 0
    open_workers = _workers(options.workers, options.ray)
    with _training_bar(chosen.decisions, start) as watch:
        return learn(chosen, folder, options.resume, lambda model: _score(model, chosen, folder), watch, open_workers)


def _workers(count: int | None, ray_address: str | None) -> OpenWorkers | None:
    """Return what starts the workers that collect, or None: this process does."""
    if ray_address is not None:
        from agents.ray_rollouts import RayWorkers

        return partial(RayWorkers, address=ray_address, count=count)
    if count is None or count == 1:
        return None
    from agents.workers import ProcessWorkers

    return partial(ProcessWorkers, count=count)


def _score(model: StreamPPO, chosen: TrainConfig, folder: Path) -> dict[str, float]:
    """Return the held-out latency relative to static:4 by scenario (one seed), for the log."""
    path = folder / "latest.safetensors"
    save_policy(_exporter(model, chosen)("", None), path)
    scenarios = load_scenarios(chosen.comparison.scenarios, {})
    evaluation = compare(
        scenarios,
        ["static:4", str(path)],
        range(1),
        make_controller,
        jobs=1,
        max_requests=chosen.comparison.max_requests,
        cache_folder=SWEEP_CACHE,
    )
    return {
        scenario: summary.ratio.estimate
        for (scenario, spec), summary in evaluation.summaries.items()
        if spec == str(path) and summary.ratio is not None
    }


def _exporter(model: StreamPPO, chosen: TrainConfig) -> Exporter:
    from agents.export import export_policy

    return partial(export_policy, model, chosen, scenario_ranges(chosen))


def _finish(exporter: Exporter, chosen: AnyConfig, folder: Path, command: str) -> None:
    """Export the policy, compare it on held-out deployments, write its evaluation into its header."""
    path = POLICIES / f"{chosen.name}.safetensors"
    save_policy(exporter(command, None), path)
    shown = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    scenarios = load_scenarios(chosen.comparison.scenarios, {})
    with progress_bar() as progress:
        evaluation = compare(
            scenarios,
            [*chosen.comparison.controllers, shown],
            range(chosen.comparison.seeds),
            make_controller,
            max_requests=chosen.comparison.max_requests,
            map_controllers=[spec for spec in ("awc", shown) if spec in (*chosen.comparison.controllers, shown)],
            cache_folder=SWEEP_CACHE,
            command=command,
            progress=progress,
        )
    save_policy(exporter(command, _told(evaluation, shown)), path)
    save(evaluation, folder / "evaluation.json")
    from dsd_gym.comparison.plots import draw_all

    draw_all(evaluation, folder)
    print(text_table(evaluation))
    print(f"A quick look: {chosen.comparison.seeds} seeds; evaluate.py compares in full, with a sweep for static:best.")
    print(f"{shown}: the policy. {folder}: config.yaml, logs, evaluation.json, plots.")


def _told(evaluation: Evaluation, spec: str) -> dict[str, Any]:
    """Return what the policy's header says of its held-out comparison."""
    told: dict[str, Any] = {"reference": evaluation.reference, "seeds": len(evaluation.seeds), "scenarios": {}}
    for (scenario, controller), summary in evaluation.summaries.items():
        if controller == spec and summary.ratio is not None:
            entry = {"mean": summary.mean, "ratio": summary.ratio.estimate}
            told |= {"overall_ratio": summary.ratio.estimate} if scenario == OVERALL else {}
            told["scenarios"] |= {} if scenario == OVERALL else {scenario: entry}
    return told


def _prepare(folder: Path, chosen: AnyConfig, resume: bool) -> None:
    """Write the resolved config; refuse to overwrite a run that was stopped before its end."""
    check_writable(folder)
    check_writable(POLICIES)
    if not resume:
        from agents.checkpoint import unfinished
        from agents.label_store import FOLDER, LabelStore

        if unfinished(folder) or LabelStore(folder / FOLDER).unfinished():
            raise ConfigError(f"{folder}: an unfinished run lies here; add --resume, or give another name=...")
        write_atomically(folder / "config.yaml", config.dump_yaml(chosen))


@contextmanager
def _training_bar(total: int, start: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show progress on stderr where it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, values: None
        return
    from rich import progress as rich
    from rich.console import Console

    text = rich.TextColumn("{task.description}")
    columns = (text, rich.BarColumn(), rich.TaskProgressColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=total, completed=start)

        def watch(done: int, values: dict[str, float]) -> None:
            told = f"{values.get('rollout/relative_ms_per_token', 0):.2f} x reference, {done:,} decisions"
            bar.update(task, completed=done, description=told)

        yield watch


def _parser() -> argparse.ArgumentParser:
    parser = Parser("train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="CONFIG | key=value", help="default: configs/train/default.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of this name")
    parser.add_argument("--workers", type=whole_number, metavar="N", help="that collect decisions (default: 1, here)")
    parser.add_argument("--ray", metavar="ADDRESS", help="a cluster to collect on (default: its processors less one)")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    return parser


if __name__ == "__main__":
    main()
