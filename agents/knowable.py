"""How much of what a window will commit can be known when it is chosen?

python -m agents.knowable                            in the training family
python -m agents.knowable --scenario train/single --decisions 50000

Windows are chosen by chance. Boosted trees then predict how many drafts of the next window will be accepted, from more
and more of what could be known; told is the share of variance they explain in deployments that they have not seen.
Whoever knew the future would explain all of it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.stacked_env import StackedVecEnv
from agents.vec_env import CompiledVecEnv, make_vec_env
from dsd_gym.comparison.statistics import student_t
from dsd_gym.config import ConfigError
from dsd_gym.family import load_scenario_or_family
from dsd_gym.files import Parser, exits_cleanly, whole_number
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.vector.foresight import FORESIGHT, MOST_RUN
from dsd_gym.vector.support import unsupported
from policies.kinds import KINDS, LOGITS, STACKED

DEPLOYMENTS, FOLDS = 64, 4
WINDOWS = (2, 4, 8)
LONGEST, CLOUD_SHARE = 8, 0.05
"""Of the windows drawn."""
PRIOR_TESTS = 4.0

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """What was known at decisions at the edge, and what came.

    `inputs` (n, inputs of a stacked policy); `fleet`, the share accepted of all drafts tested so far in the deployment;
    `run`, how many drafts from here on will be accepted; `deployment`, the number of the one it was in.
    """

    inputs: Array
    fleet: Array
    run: Array
    deployment: Array


def collect(scenario: str, decisions: int, seed: int = 0) -> Moments:
    """Return so many decisions under windows drawn by chance; ConfigError for a scenario that is not compiled."""
    source = load_scenario_or_family(scenario, {})
    if (mechanism := unsupported(source)) is not None:
        raise ConfigError(f"{scenario}: {mechanism} is not compiled, and only compiled scenarios tell what is to come")
    inner = make_vec_env(source, DEPLOYMENTS, None, foresight=True, priced=True)
    assert isinstance(inner, CompiledVecEnv)
    env, random = StackedVecEnv(inner), np.random.default_rng(seed)
    env.seed(seed)
    return Moments(*map(np.concatenate, zip(*_played(env, -(-decisions // DEPLOYMENTS), random), strict=True)))


def _played(env: StackedVecEnv, steps: int, random: np.random.Generator) -> Iterator[Moments]:
    width, run = len(KINDS[STACKED].features), FORESIGHT.index("run_ahead")
    longest = min(LONGEST, int(cast(spaces.Discrete, env.action_space).n) - 1)
    passed, tested, episodes = np.zeros(DEPLOYMENTS), np.zeros(DEPLOYMENTS), np.zeros(DEPLOYMENTS)
    seen = env.reset()
    for _ in range(steps):
        assert isinstance(seen, np.ndarray)
        at_edge = seen[:, FEATURE_NAMES.index("cloud_mode")] == 0.0
        fleet = passed / np.maximum(tested, PRIOR_TESTS)
        number = np.arange(DEPLOYMENTS) + DEPLOYMENTS * episodes
        yield Moments(*(c[at_edge] for c in (seen[:, :width], fleet, MOST_RUN * seen[:, width + run], number)))
        windows = random.integers(1, longest + 1, DEPLOYMENTS)
        windows[random.random(DEPLOYMENTS) < CLOUD_SHARE] = 0
        seen, _, dones, _ = env.step(windows)
        rounds = env.rounds
        passed += np.bincount(rounds["deployment"], rounds["accepted"], DEPLOYMENTS)
        tests = np.minimum(rounds["accepted"] + 1, rounds["drafted"])
        tested += np.bincount(rounds["deployment"], tests, DEPLOYMENTS)
        passed[dones] = tested[dones] = 0.0
        episodes += dones


def tiers(moments: Moments) -> dict[str, Array]:
    """Return what could be known, from little to much."""
    inputs, features = moments.inputs, len(KINDS[LOGITS].features)
    rule = [FEATURE_NAMES.index(name) for name in ("acceptance_estimate", "first_guess_confidence", "has_first_guess")]
    return {
        "what `awc` goes by: the running share and the first guess's confidence": inputs[:, rule],
        "the whole observation": inputs[:, :features],
        "and the request's last eight rounds": inputs,
        "and the share accepted of all edges' drafts so far": np.column_stack([inputs, moments.fleet]),
    }


def explained(inputs: Array, target: Array, deployment: Array) -> Array:
    """Return the share of the target's variance that is foretold, for each fold of deployments left out, (FOLDS,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    shares = []
    for fold in range(FOLDS):
        left_out = deployment % FOLDS == fold
        trees = HistGradientBoostingRegressor(learning_rate=0.06, max_iter=200, min_samples_leaf=100, random_state=0)
        with threadpool_limits(1):  # several wait for each other where the machine has other work
            foretold = trees.fit(inputs[~left_out], target[~left_out]).predict(inputs[left_out])
        shares.append(1.0 - np.mean((foretold - target[left_out]) ** 2) / target[left_out].var())
    return np.array(shares)


def table(moments: Moments) -> str:
    """Return a Markdown table: the share foretold, with Student's 95 % interval over folds."""
    rows = [f"| known | {' | '.join(f'window of {window}' for window in WINDOWS)} |", "|---|" + "--:|" * len(WINDOWS)]
    for name, inputs in tiers(moments).items():
        shares = (explained(inputs, np.minimum(moments.run, k), moments.deployment) for k in WINDOWS)
        rows.append(f"| {name} | {' | '.join(map(_shown, shares))} |")
    return "\n".join(rows)


def _shown(shares: Array) -> str:
    half = student_t(FOLDS - 1) * shares.std(ddof=1) / math.sqrt(FOLDS)
    return f"{100 * shares.mean():.1f} % [{100 * (shares.mean() - half):.1f}, {100 * (shares.mean() + half):.1f}]"


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = Parser("agents.knowable", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="train/broad", help="a scenario or family that is compiled")
    parser.add_argument("--decisions", type=whole_number, default=200_000, help="how many are looked at")
    options = parser.parse_args(arguments)
    print(table(collect(options.scenario, options.decisions)))


if __name__ == "__main__":
    main()
