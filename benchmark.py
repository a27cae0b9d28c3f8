"""How fast: the simulator, the runtime, and what a link makes of it.

python benchmark.py [--json] [--seconds S]            decisions a CPU second, compiled and not; PPO; controllers
python benchmark.py runtime [--json] [--repeats N]    the shipped model pair against `generate`, over gRPC, batched
python benchmark.py links [--json] [--repeats N]      tokens/s of controllers over an emulated link
python benchmark.py hour [--json] [--fraction F] ...  an hour of 20 targets and 1,000 drafters; broken off, it goes on
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gymnasium

import dsd_gym  # noqa: F401  (registers the environment)
from agents import make_controller
from agents.base import Controller
from dsd_gym.comparison.hour import run_long
from dsd_gym.comparison.parallel import cpu_count
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.comparison.segments import peak_memory_mb, run_segment, split
from dsd_gym.config import parse_assignments
from dsd_gym.files import Parser, check_writable, exits_cleanly, number_above_0, whole_number, write_atomically
from dsd_gym.observation import Observation
from dsd_gym.records import Decision
from dsd_gym.scenario import Scenario
from dsd_gym.scenario_files import load_scenario
from dsd_gym.simulator import simulate

SCENARIO = "train/single"
OVERRIDES = {"workload.load": 0.6, "horizon_ms": 20_000}
WINDOW = 4
CONTROLLERS = ("static:4", "heuristic", "leviathan", "awc")
POLICIES = Path(__file__).parent / "policies"
OBSERVATIONS = 2000
HOUR = "scale/hour"
HOUR_OUT = Path("runs/hour")


class Rates(NamedTuple):
    """What the simulator does in a CPU second."""

    decisions: float
    tokens: float


class Collector(Controller):
    """A fixed window that keeps what it is shown."""

    def __init__(self) -> None:
        self.asked: list[tuple[Observation, int]] = []

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the fixed window."""
        self.asked.append((observation, stream))
        return Decision(WINDOW)


@exits_cleanly
def main() -> None:
    """Measure everything and print it."""
    options = _parser().parse_args()
    if options.what == "hour":
        print(hour(options))
        return
    if options.what == "simulator":
        figures = measure(options.seconds)
        print(json.dumps(figures) if options.json else table(figures))
        return
    from runtime.measure import report  # torch and transformers take seconds to import

    told = report.links if options.what == "links" else report.speed
    print(told(options.repeats, options.json))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", nargs="?", choices=("simulator", "runtime", "links", "hour"), default="simulator")
    add("--json", action="store_true", help="print one JSON object")
    add("--seconds", type=number_above_0, default=5.0, help="CPU seconds for each figure (default: 5)")
    add("--repeats", type=whole_number, default=5, help="of each figure of the runtime (default: 5)")
    add("--fraction", type=number_above_0, default=1.0, help="of the hour (default: 1)")
    add("--segments", type=whole_number, default=12, help="of the hour, each kept when done; 1 is unbroken")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help=f"change {HOUR} for the hour")
    add("--jobs", type=whole_number, default=cpu_count(), help="for the hour (default: one a processor)")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster that runs the hour instead")
    add("--out", type=Path, default=HOUR_OUT, help=f"folder for the hour (default: {HOUR_OUT})")
    return parser


def measure(seconds: float) -> dict[str, object]:
    """Return every figure by name; rates are per CPU second of one core, so a busy machine changes them little."""
    from agents import speed  # so do torch and stable-baselines3

    scenario, plain = load_scenario(SCENARIO, OVERRIDES), load_scenario(SCENARIO)
    rates = simulator_rates(scenario, seconds)
    specs = [*CONTROLLERS, *(str(file) for file in sorted(POLICIES.glob("*.safetensors")))]
    figures = {
        "simulator_decisions_per_cpu_s": round(rates.decisions),
        "simulator_tokens_per_cpu_s": round(rates.tokens),
        "verify_jobs_per_cpu_s": round(verify_jobs_per_cpu_s(seconds)),
        "env_steps_per_cpu_s": round(env_steps_per_cpu_s(scenario, seconds)),
        "controller_median_us": controller_median_us(scenario, specs),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "scenario": f"{SCENARIO} {' '.join(f'{key}={value}' for key, value in OVERRIDES.items())} static:{WINDOW}",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    fast = speed.measure(plain, seconds)  # after the simulator's peak of memory has been read
    return figures | fast | {"vector_over_simulator": round(vector_over_simulator(plain, seconds), 1)}


def vector_over_simulator(scenario: Scenario, seconds: float) -> float:
    """Return how many times as fast as the simulator the compiled environment is: the median of turns side by side."""
    from agents import speed

    runs, turn_s = speed.whole_runs(scenario), seconds / speed.REPEATS
    runs()
    turns = range(speed.REPEATS)
    return statistics.median(speed.rate(runs, turn_s) / simulator_rates(scenario, turn_s).decisions for _ in turns)


def simulator_rates(scenario: Scenario, seconds: float) -> Rates:
    """Simulate one seed after another for `seconds`."""
    decisions = tokens = 0
    clock = _stopwatch(seconds)
    for seed, elapsed_s in enumerate(clock):
        records = simulate(scenario, make_controller(f"static:{WINDOW}", scenario.max_window), seed)
        decisions += len(records.rounds)
        tokens += sum(request.committed_tokens for request in records.requests)
        spent_s = elapsed_s()
    return Rates(decisions / spent_s, tokens / spent_s)


def verify_jobs_per_cpu_s(seconds: float) -> float:
    """Simulate the first five seconds of one hour of 20 targets and 1,000 drafters after another for `seconds`."""
    (segment,) = split(load_scenario(HOUR, {"warm_up_ms": 0.0, "horizon_ms": 5000.0}), CONTROLLERS[0], make_controller)
    jobs = 0
    for seed, elapsed_s in enumerate(_stopwatch(seconds)):
        jobs += run_segment(segment._replace(seed=seed)).verify_jobs
        spent_s = elapsed_s()
    return jobs / spent_s


def hour(options: argparse.Namespace) -> str:
    """Run what is left of the hour, write its result and return it for print."""
    scenario = load_scenario(HOUR, parse_assignments(options.set))
    check_writable(options.out)
    segments = split(scenario, CONTROLLERS[0], make_controller, options.fraction, options.segments)
    with progress_bar(lines=True) as progress:
        run = run_long(segments, options.out, options.jobs, options.ray, progress)
    write_atomically(options.out / "hour.json", run.as_json())
    return run.as_json() if options.json else run.table()


def env_steps_per_cpu_s(scenario: Scenario, seconds: float) -> float:
    """Step the Gymnasium environment for `seconds`, resets included."""
    env = gymnasium.make("dsd_gym/EdgeCloud-v0", scenario=scenario, disable_env_checker=True)
    steps = 0
    for seed, elapsed_s in enumerate(_stopwatch(seconds)):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(WINDOW)
            over = terminated or truncated
            steps += 1
        spent_s = elapsed_s()
    return steps / spent_s


def controller_median_us(scenario: Scenario, specs: list[str]) -> dict[str, float]:
    """Return the median us of one decision of each controller, scaling and forward pass included."""
    collector = Collector()
    simulate(scenario, collector)
    medians = {}
    for spec in specs:
        decide = make_controller(spec, scenario.max_window).decide
        times = [_time_us(decide, *asked) for asked in itertools.islice(itertools.cycle(collector.asked), OBSERVATIONS)]
        medians[Path(spec).name] = round(statistics.median(times), 2)
    return medians


def table(figures: dict[str, object]) -> str:
    """Return the figures as lines for people."""
    controllers = figures["controller_median_us"]
    assert isinstance(controllers, dict)
    lines = [
        ("simulator", f"{figures['simulator_decisions_per_cpu_s']:>10,} decisions a CPU second"),
        ("", f"{figures['simulator_tokens_per_cpu_s']:>10,} committed tokens a CPU second"),
        ("20 x 1,000", f"{figures['verify_jobs_per_cpu_s']:>10,} verify jobs a CPU second"),
        ("environment", f"{figures['env_steps_per_cpu_s']:>10,} steps a CPU second"),
        ("compiled", f"{figures['vector_decisions_per_s']:>10,} decisions a CPU second ({SCENARIO} as it is)"),
        ("", f"{figures['vector_family_decisions_per_s']:>10,} decisions a CPU second (a randomised family)"),
        ("", f"{figures['vector_over_simulator']:>10} times the simulator on the same scenario"),
        ("CartPole", f"{figures['cartpole_vector_steps_per_s']:>10,} steps a CPU second (Gymnasium's own)"),
        ("PPO", f"{figures['ppo_steps_per_s']:>10,} steps a CPU second"),
        ("first start", f"{figures['compile_s']:>10} CPU s to the first step; later ones {figures['cached_start_s']}"),
        *((name, f"{microseconds:>10.2f} us a decision (median)") for name, microseconds in controllers.items()),
        ("peak memory", f"{figures['peak_memory_mb']:>10} MB"),
    ]
    width = max(len(name) for name, _ in lines)
    head = f"{figures['scenario']}; Python {figures['python']}, {figures['machine']}"
    return "\n".join([head, *(f"{name:{width}} {figure}" for name, figure in lines)])


def _stopwatch(seconds: float) -> Iterator[Callable[[], float]]:
    """Yield, until `seconds` of CPU time are spent, a function that returns how many were."""
    start_s = time.process_time()
    while True:
        yield lambda: time.process_time() - start_s
        if time.process_time() - start_s >= seconds:
            return


def _time_us(decide: Callable[[Observation, int], Decision], observation: Observation, stream: int) -> float:
    start_ns = time.perf_counter_ns()
    decide(observation, stream)
    return (time.perf_counter_ns() - start_ns) / 1000.0


if __name__ == "__main__":
    main()
