"""Fill a table from batch size to window by simulation: the tool that users of batch-size tables lack.

python -m agents.tune_table --scenarios train/family --out my_table.yaml
python -m agents.tune_table --scenarios held_out/lan_lab --loads 0.05 0.2 0.5 1 --out lan.yaml

Every fixed window runs at every load with the same luck. A range of batch sizes gets the window that was best where
batches of that size occurred: each run's latency counts by its share of such batches. Ranges that never occurred
carry the window before them. The file serves as `table:FILE.yaml`, and is printed in vLLM's form too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.table import BatchTable
from agents.tune_runs import FAMILY, draw, shortened
from agents.tune_sweep import LAST_BATCHES, Sweep, sweep
from dsd_gym.config import ConfigError
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.files import Parser, check_writable, exits_cleanly, number_above_0, whole_number, write_atomically
from dsd_gym.observation import MAX_WINDOW
from dsd_gym.scenario import Scenario, Workload

WINDOWS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
LOADS = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0)


def deployments(names: Sequence[str], loads: Sequence[float], count: int, seed: int) -> list[Scenario]:
    """Return what is swept: of a family `count` draws, which bring their loads; of a scenario one for each load."""
    found: list[Scenario] = []
    for name in names:
        source = load_scenario_or_family(name)
        if isinstance(source, Family):
            found += draw(count, seed, source)
        else:
            found += [shortened(replace(source, workload=Workload(load=load))) for load in loads]
    return found


def as_yaml(table: BatchTable) -> str:
    """Return the content of the table's file."""
    rows = "".join(f"  - {list(row)}\n" for row in table.num_speculative_tokens_per_batch_size)
    return f"command: {json.dumps(table.command)}\nnum_speculative_tokens_per_batch_size:\n{rows}"


def for_vllm(table: BatchTable) -> str:
    """Return the table as keys of vLLM's `--speculative-config`."""
    rows = [list(row) for row in table.num_speculative_tokens_per_batch_size]
    longest = max(window for _, _, window in rows)
    return json.dumps({"num_speculative_tokens": longest, "num_speculative_tokens_per_batch_size": rows})


def print_sweep(swept: Sweep) -> None:
    """Print how far each window was from the best, by range of batch sizes."""
    print(f"latency above the best window, %, over {len(swept.shares)} deployments")
    print(f"{'batch size':>12}" + "".join(f"{f'k={window}':>8}" for window in swept.windows))
    for first, last, row in zip((1, *(n + 1 for n in LAST_BATCHES)), LAST_BATCHES, swept.regret(), strict=False):
        cells = "".join(f"{100.0 * np.expm1(value):8.1f}" for value in row)
        print(f"{f'{first}-{last}':>12}" + ("     never seen" if np.isnan(row[0]) else cells))


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep, fill a table, write it and print it."""
    options = _parser().parse_args(arguments)
    if options.seed < 0:
        raise ConfigError("--seed must be at least 0")
    scenarios = deployments(options.scenarios, options.loads, options.deployments, options.seed)
    longest = min([MAX_WINDOW, *(scenario.max_window for scenario in scenarios)])
    if not all(0 <= window <= longest for window in options.windows):
        raise ConfigError(f"--windows must lie between 0 and {longest}")
    check_writable(options.out.parent)
    if options.out.is_dir():
        raise ConfigError(f"--out must be a file, but {options.out} is a folder")
    swept = sweep(scenarios, sorted(set(options.windows)), options.seed, options.jobs)
    given = sys.argv[1:] if arguments is None else list(arguments)
    table = swept.table(shlex.join(["python", "-m", "agents.tune_table", *given]))
    write_atomically(options.out, as_yaml(table))
    print_sweep(swept)
    print(f"{options.out}: use it as table:{options.out}, or with vLLM's --speculative-config:\n{for_vllm(table)}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m agents.tune_table", description="Fill a batch-size table.")
    parser.add_argument("--scenarios", nargs="+", default=[FAMILY], help=f"scenarios or families (default: {FAMILY})")
    parser.add_argument("--out", type=Path, required=True, help="the YAML file to write")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="windows to try")
    parser.add_argument("--loads", type=number_above_0, nargs="+", default=LOADS, help="of saturation, plain scenarios")
    parser.add_argument("--deployments", type=whole_number, default=24, help="drawn from a family (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and of the luck in them (default: 0)")
    parser.add_argument("--jobs", type=whole_number, default=2, help="processes (default: 2)")
    return parser


if __name__ == "__main__":
    main()
