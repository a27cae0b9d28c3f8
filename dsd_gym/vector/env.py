"""Many deployments as one Gymnasium vector environment: each of them what `EdgeCloudEnv` is alone, only faster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dsd_gym.config import ConfigError
from dsd_gym.env import action_space_of, observation_space
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.observation import FEATURES
from dsd_gym.scenario import Scenario
from dsd_gym.vector.fleet import Fleet
from dsd_gym.vector.layout import Records
from dsd_gym.vector.loading import Deployment
from dsd_gym.vector.shown import shown
from dsd_gym.vector.support import check_supported

Infos = dict[str, Any]
TRIES = 100
"""Runs in a row in which nobody asks, before a scenario is taken to have no questions at all."""


class EdgeCloudVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` deployments: spaces, rewards and ends as in `dsd_gym.env.EdgeCloudEnv`.

    Deployment i that is reset with seed s + i meets what `EdgeCloudEnv.reset(seed=s + i)` does, and goes on alike.
    One that has ended begins anew in the same step: its last observation (zeros: nobody asks any more) stands in
    `info["final_obs"]`.

    `info["rounds"]`, `info["begun"]` and `info["ended"]` are record arrays (`dsd_gym.vector.layout.ROUND` and `STREAM`)
    of all that happened in the step, the column `deployment` telling where; `begun_anew` and `ended_anew` are the
    requests that had begun, and ended, by the first question of deployments that were reset. `stream`, `time_ms` and
    `reference_ms` have an entry for each deployment, after the reset. With `foresight`, so has `foresight`: what no
    edge could know (`dsd_gym.vector.foresight`), for a critic, (num_envs, columns), float32. All are good until the
    next step or reset.

    Raises:
        ConfigError: the scenario has a mechanism that only the SimPy simulator knows; the line names it.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Scenario | Family = "train/single",
        render_mode: str | None = None,
        stop_thresholds: Sequence[float] | None = None,
        foresight: bool = False,
    ) -> None:
        if isinstance(scenario, str | Path):
            scenario = load_scenario_or_family(scenario)
        self._source = scenario
        base = scenario.base if isinstance(scenario, Family) else scenario
        check_supported(scenario)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.max_window = base.max_window
        self.stop_thresholds = None if stop_thresholds is None else tuple(map(float, stop_thresholds))
        self.single_action_space = action_space_of(self.max_window, self.stop_thresholds)
        self.single_observation_space = observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._thresholds = np.array([value or -1.0 for value in self.stop_thresholds or ()])
        self._fleet = Fleet(num_envs, foresight)
        self._randoms = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self._deployment = Deployment(scenario) if isinstance(scenario, Scenario) else None
        self._owed: NDArray[np.float64] | float = 0.0
        """Rewards of what has passed before the first question of runs that have begun since the last step."""
        self._unready = set(range(num_envs))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Infos | None = None
    ) -> tuple[NDArray[np.float32], Infos]:
        """Begin new runs, all or those of `options["reset_mask"]`; with a number as seed, deployment i has seed + i."""
        seeds, mask = self._seeds(seed), self._mask(options)
        for place in np.flatnonzero(mask).tolist():
            if (own := seeds[place]) is not None:
                self._randoms[place] = seeding.np_random(int(own))[0]
        rounds, begun, ended = self._begin(np.flatnonzero(mask), after=False)
        self._unready -= set(np.flatnonzero(mask).tolist())
        return shown(self._fleet.seen), self._info() | {"rounds": rounds, "begun": begun, "ended": ended}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + place for place in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{self.num_envs} deployments need as many seeds, not {len(seed)}")
        return seed

    def _mask(self, options: Infos | None) -> NDArray[np.bool_]:
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(f"reset_mask must be {self.num_envs} truth values, one of them true, not {mask.tolist()}")
        return mask

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Answer every question and run to the next ones."""
        if self._unready:
            raise gymnasium.error.ResetNeeded("call reset before step")
        fleet = self._fleet
        fleet.answer(*self._decisions(np.asarray(actions)))
        rewards, self._owed = self._owed - fleet.waited_ms / fleet.reference_ms, 0.0
        over, info = fleet.over, self._info()
        if not np.count_nonzero(over):
            return shown(fleet.seen), rewards, over, over.copy(), info
        terminated, truncated = over & (fleet.live == 0), over & (fleet.live > 0)
        info |= self._ended(over)
        return shown(fleet.seen), rewards, terminated, truncated, info

    def _decisions(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        if actions.shape != self.action_space.shape or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be integers of shape {self.action_space.shape}, not {actions!r:.60}")
        windows = actions if self.stop_thresholds is None else actions[:, 0]
        if self.stop_thresholds is None:
            return windows, None
        chosen = actions[:, 1]
        if chosen.min() < 0 or chosen.max() >= len(self._thresholds):
            raise ValueError(f"a threshold is outside 0..{len(self._thresholds) - 1}")
        return windows, self._thresholds[chosen]

    def _ended(self, over: NDArray[np.bool_]) -> Infos:
        """Begin anew where a run is over; return what is to be told of its end."""
        places, fleet = np.flatnonzero(over), self._fleet
        last = np.full(self.num_envs, None, object)
        for place in places:
            last[place] = np.zeros(len(FEATURES), np.float32)
        final = {"time_ms": fleet.now_ms.copy(), "reference_ms": fleet.reference_ms.copy()}
        told = {"final_obs": last, "_final_obs": over, "final_info": final, "_final_info": over}
        _, begun, ended = self._begin(places, after=True)
        return told | {"begun_anew": begun, "ended_anew": ended}

    def _begin(self, places: NDArray[np.intp], after: bool) -> list[Records]:
        """Load fresh runs and return what `Fleet.happened` tells of them, alone or `after` the step's.

        A run in which nobody ever asks (no arrivals) is no episode and is drawn again.
        """
        fleet, left = self._fleet, places
        drawn = {place: self._draw(place) for place in places}
        told: list[list[Records]] = []
        for _ in range(TRIES):
            for place in left:
                fleet.load(int(place), drawn[place], int(self._randoms[place].integers(2**31)))
            before = [len(rows) for rows in fleet.happened] if after else [0, 0, 0]
            fleet.start(left, after)
            after = True
            told.append([rows[first:] for rows, first in zip(fleet.happened, before, strict=True)])
            left = left[fleet.over[left]]
            if not len(left):
                break
            told[-1] = [rows[~fleet.over[rows["deployment"]]] for rows in told[-1]]
        else:
            raise ConfigError(f"{self._source.name}: nobody ever asks: no request of two tokens or more arrives")
        owed = np.zeros(self.num_envs) + self._owed
        owed[places] = -fleet.waited_ms[places] / fleet.reference_ms[places]
        self._owed = owed
        return told[0] if len(told) == 1 else [np.concatenate(rows) for rows in zip(*told, strict=True)]

    def _draw(self, place: np.intp) -> Deployment:
        if self._deployment is not None:
            return self._deployment
        assert isinstance(self._source, Family)
        return Deployment(self._source.sample(self._randoms[place]))

    def _info(self) -> Infos:
        fleet = self._fleet
        rounds, begun, ended = fleet.happened
        return {
            "stream": fleet.asking,
            "time_ms": fleet.now_ms,
            "reference_ms": fleet.reference_ms,
            "foresight": fleet.ahead,
            "rounds": rounds,
            "begun": begun,
            "ended": ended,
        }
