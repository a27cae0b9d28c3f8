"""Train many policies that differ in one thing each, several seeds of every one, and set them against each other.

python -m agents.population configs/populations/ablations.yaml                  all of them, over the processors
python -m agents.population configs/populations/ablations.yaml --only base team
python -m agents.population configs/populations/ablations.yaml --ray auto       over a Ray cluster

A run that has ended is not done again: broken off, the same command goes on. Runs of an earlier version of the code are
kept, and told of below the table.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from agents.train_config import TrainConfig, load_train_config, run_hash
from dsd_gym.comparison.cells import agents_hash, simulator_hash
from dsd_gym.comparison.parallel import cpu_count, run_all
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.comparison.statistics import student_t
from dsd_gym.config import ConfigError, Count, build, did_you_mean, read_yaml
from dsd_gym.files import Parser, check_writable, exits_cleanly, whole_number, write_atomically
from policies import Policy, save_policy

RUNS = Path("runs")


@dataclass(frozen=True)
class Variant:
    """One way to train: dotted keys of a training config, and what they are about."""

    name: str
    about: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    against: str | None = None
    """The variant that it differs from in one factor; None: the first."""


@dataclass(frozen=True)
class Population:
    """What is trained: each variant with each seed."""

    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    base: dict[str, Any] = field(default_factory=dict)
    """Keys that all variants share, where they do not set them otherwise."""
    seeds: Count = 3

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for variant in self.variants:
            if names.count(variant.name) > 1:
                raise ValueError(f"variants: two are named {variant.name}")
            if variant.against is not None and variant.against not in names:
                told = did_you_mean(variant.against, names)
                raise ValueError(f"variants: {variant.name}: against: no variant {variant.against}{told}")


class Run(NamedTuple):
    """One training run and where its result goes."""

    train_config: TrainConfig
    path: Path


class Trained(NamedTuple):
    """What came of a run, wherever it was trained."""

    result: dict[str, Any]
    policy: Policy


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    options = _parser().parse_args(arguments)
    population = build(Population, read_yaml(options.file), source=str(options.file))
    population = _chosen(population, options.only or [], str(options.file))
    folder, seeds = RUNS / options.file.stem, range(population.seeds)
    runs = {(v.name, seed): _run(population, v, seed, options.file) for v in population.variants for seed in seeds}
    check_writable(folder)
    missing = [run for run in runs.values() if not run.path.is_file()]
    with progress_bar(lines=True) as progress:
        for done, (index, trained) in enumerate(run_all(train, missing, options.jobs, options.ray), 1):
            _keep(missing[index], trained)
            if progress:
                progress(done, len(missing))
    results = {key: _result(run.path) for key, run in runs.items()}
    text = table(population, results)
    write_atomically(folder / "table.md", text)
    print(text)


def train(run: Run) -> Trained:
    """Train one policy and validate it; checkpoints and logs stay where that is done, in a folder of the run's own."""
    from agents.export import export_policy
    from agents.train_config import scenario_ranges
    from agents.training import learn
    from agents.validation import validate

    chosen, code, started_s = run.train_config, _code(), time.perf_counter()
    folder = run.path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    model = learn(chosen, folder)
    seconds = time.perf_counter() - started_s
    policy = export_policy(model, chosen, scenario_ranges(chosen), "")
    decisions = model.num_timesteps
    del model
    gc.collect()  # a learner and its callback hold each other, and the next run is in this process
    result = {"seconds": round(seconds, 1), "decisions": decisions, "log_ratios": validate(policy), "code": code}
    return Trained(result, policy)


def _code() -> str:
    """Return a digest of the code that a result depends on."""
    return hashlib.sha256(f"{simulator_hash()} {agents_hash()}".encode()).hexdigest()[:12]


def _keep(run: Run, trained: Trained) -> None:
    """Write down what came of a run; the result last, for it tells that the run has ended."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    save_policy(trained.policy, run.path.with_suffix(".safetensors"))
    write_atomically(run.path, json.dumps(trained.result))


def _result(path: Path) -> dict[str, Any]:
    """Return what came of a run; ConfigError for a file that does not hold it."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if np.asarray(result["log_ratios"], np.float64).ndim == 1 and result["seconds"] > 0 < result["decisions"]:
            return result
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{path}: not the result of a run; without it that run is done again")


def table(population: Population, results: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Return a Markdown table: each variant's latency against the rival's, and against what it is set against."""
    rows = ["| variant | about | latency against awc | against the first | decisions/s |", "|---|---|--:|--:|--:|"]
    logs = {
        variant.name: np.array([results[variant.name, seed]["log_ratios"] for seed in range(population.seeds)])
        for variant in population.variants
    }
    first = population.variants[0]
    for variant in population.variants:
        own = [results[variant.name, seed] for seed in range(population.seeds)]
        speed = sum(r["decisions"] for r in own) / sum(r["seconds"] for r in own)
        other = variant.against or first.name
        against = shown((logs[variant.name] - logs[other]).mean(axis=1)) if variant is not first else ""
        against += f" against {other}" if variant.against else ""
        columns = variant.name, variant.about, shown(logs[variant.name].mean(axis=1)), against, f"{speed:,.0f}"
        rows.append(f"| {' | '.join(columns)} |")
    earlier = [f"{name}-{seed}" for (name, seed), result in results.items() if result.get("code") != _code()]
    if earlier:
        rows.append(f"\nTrained or validated by another version of the code: {', '.join(earlier)}.")
    return "\n".join(rows) + "\n"


def shown(logs: Any) -> str:
    """Return the geometric mean over seeds as a percentage, with Student's 95 % interval if there are two or more."""
    mean, count = float(np.mean(logs)), len(logs)
    if count < 2:
        return f"{_percent(mean)} %"
    half = student_t(count - 1) * float(np.std(logs, ddof=1)) / math.sqrt(count)
    return f"{_percent(mean)} % [{_percent(mean - half)}, {_percent(mean + half)}]"


def _percent(log: float) -> str:
    return f"{100.0 * math.expm1(log):+.1f}"


def _chosen(population: Population, only: Sequence[str], source: str) -> Population:
    names = [variant.name for variant in population.variants]
    for name in only:
        if name not in names:
            raise ConfigError(f"{source}: no variant {name}{did_you_mean(name, names)}")
    wanted = {*only, *(v.against for v in population.variants if v.name in only)}
    kept = tuple(v for i, v in enumerate(population.variants) if not only or i == 0 or v.name in wanted)
    return Population(kept, population.base, population.seeds)


def _run(population: Population, variant: Variant, seed: int, file: Path) -> Run:
    own, source = {"name": f"{variant.name}-{seed}", "seed": seed}, f"{file}: {variant.name}"
    chosen = load_train_config(None, {**population.base, **variant.set, **own}, source)
    if not isinstance(chosen, TrainConfig):
        raise ConfigError(f"{source}: a population is trained by PPO (learner: ppo)")
    return Run(chosen, RUNS / file.stem / variant.name / f"{seed}-{run_hash(chosen)[:8]}.json")


def _parser() -> argparse.ArgumentParser:
    parser = Parser("agents.population", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a YAML file with variants")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants and the first")
    parser.add_argument("--jobs", type=whole_number, default=cpu_count(), help="processes (default: one a processor)")
    parser.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster to train on instead")
    return parser


if __name__ == "__main__":
    main()
