"""The deployment as a Gymnasium environment: every step answers one request's question, "how long a window now?"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dsd_gym.config import ConfigError
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.observation import FEATURES, to_array
from dsd_gym.records import Decision
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import Ask, Simulation

NOBODY = -1
"""`info["stream"]` where no request asks any more; a number, for Gymnasium's vector environments make arrays of it."""


def observation_space() -> spaces.Space[NDArray[np.float32]]:
    """Return the space of scaled observations."""
    space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
    return space


def action_space_of(max_window: int, stop_thresholds: Sequence[float] | None) -> spaces.Space[Any]:
    """Return the space of windows, or of windows and stop thresholds; ConfigError for thresholds outside [0, 1]."""
    if stop_thresholds is None:
        return spaces.Discrete(max_window + 1)
    if not stop_thresholds or not all(0.0 <= value <= 1.0 for value in stop_thresholds):
        raise ConfigError(f"stop_thresholds must be numbers from 0 to 1, not {list(stop_thresholds)}")
    return spaces.MultiDiscrete([max_window + 1, len(stop_thresholds)])


class EdgeCloudEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """A window for the request that asks.

    ## Description
    Edge devices draft with a small model; a cloud target verifies their windows in shared passes. Whenever a request
    has its last tokens in hand (and, at the edge, a first guess), the simulation stands still and asks how many
    tokens to draft next. One step answers one question; the next question may be another request's.

    ## Action Space
    `Discrete(max_window + 1)`. 0: the cloud decodes on its own; k: the edge drafts k tokens.

    With `stop_thresholds`, `MultiDiscrete([max_window + 1, len(stop_thresholds)])`: the second number chooses the
    threshold, and drafting stops early at the token that makes the product of the draft's confidences fall under it
    (0 never stops).

    ## Observation Space
    `Box(0, 1, (25,), float32)`: `dsd_gym.observation.FEATURES` in order, each clipped to [0, high] and scaled:

    | index | features | scale |
    |---|---|---|
    | 0-4 | acceptance_estimate, last_window, last_accepted, all_accepted, has_last_round | linear |
    | 5-6 | first_guess_confidence, has_first_guess | linear |
    | 7-9 | last_mean_confidence, has_last_confidence, cloud_mode | linear |
    | 10-14 | draft_ms_per_token, last_rtt_ms, smoothed_rtt_ms, rtt_deviation_ms, uplink_ms_per_token | log(1+x/knee) |
    | 15-18 | queue_wait_ms, iteration_ms, batch_size, iteration_tokens (the target's last report) | log(1+x/knee) |
    | 19-20 | marginal_ms_per_token, one_token_iteration_ms (of the same report) | log(1+x/knee) |
    | 21-24 | report_age_ms, catch_up_ms, context_tokens, committed_tokens | log(1+x/knee) |

    A feature whose `has_` flag is 0 is absent and 0.

    ## Rewards
    The team cost of the simulated time that passed: minus the sum over live requests (from arrival to last token, the
    wait for the first token included) of elapsed ms, divided by `info["reference_ms"]`, the closed-form zero-load ms a
    token of the scenario. A whole episode's rewards add up to minus all requests' ms in the system (to the last
    token, or to a rejection) over the reference.

    `info["stream"]` is the request that asks (-1 after the last step). For credit along each request's own rounds,
    `info["begun"]` lists (stream, device, target) of the requests that arrived during the step, `info["rounds"]` the
    rounds that ended during it (`dsd_gym.records.Round`: stream, committed, elapsed_ms, externality_ms) and
    `info["ended"]` the requests that did (`RequestRecord`).

    ## Starting State
    An empty system at time 0, in which requests have begun to arrive, at the first question anyone asks.

    ## Episode End
    Termination: every request has been served (arrivals stop at the scenario's horizon).
    Truncation: the drain time is over and requests are still in flight.

    ## Arguments
    `scenario`: a name under configs/scenarios (`"held_out/mobile_4g"`), a path, a `Scenario`, or a `Family`, from which
    `reset` draws a scenario. `stop_thresholds`: None, or thresholds in [0, 1] for the second dimension of an action.

    ```python
    import gymnasium, dsd_gym
    env = gymnasium.make("dsd_gym/EdgeCloud-v0", scenario="held_out/mobile_4g")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(4)
    ```

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        scenario: str | Path | Scenario | Family = "train/single",
        render_mode: str | None = None,
        stop_thresholds: Sequence[float] | None = None,
    ) -> None:
        if isinstance(scenario, str | Path):
            scenario = load_scenario_or_family(scenario)
        self._source = scenario
        self.render_mode = render_mode
        base = scenario.base if isinstance(scenario, Family) else scenario
        self.max_window = base.max_window
        self.stop_thresholds = None if stop_thresholds is None else tuple(map(float, stop_thresholds))
        self.observation_space = observation_space()
        self.action_space = action_space_of(self.max_window, self.stop_thresholds)
        self.simulation: Simulation | None = None
        self._ask: Ask | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a new run, with its own luck; a family draws a new scenario first."""
        super().reset(seed=seed)
        scenario = self._source.sample(self.np_random) if isinstance(self._source, Family) else self._source
        self._ask = None
        for _ in range(100):  # a run in which nobody ever asks (no arrivals) is no episode
            simulation = Simulation(scenario, int(self.np_random.integers(2**31)), keep_rounds=False)
            self._ask = simulation.next_decision()
            if self._ask is not None:
                break
        else:
            raise ConfigError(f"{scenario.name}: nobody ever asks: no request of two tokens or more arrives")
        self.simulation = simulation
        self._first_reward = -simulation.take_waited_ms() / simulation.reference_ms
        return to_array(self._ask.observation), self._info(simulation)

    def step(self, action: Any) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Answer the pending question and run to the next one."""
        if self.simulation is None or self._ask is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        simulation = self.simulation
        simulation.answer(self._decision(action))
        self._ask = simulation.next_decision()
        reward = self._first_reward - simulation.take_waited_ms() / simulation.reference_ms
        self._first_reward = 0.0
        over = self._ask is None
        observation = np.zeros(len(FEATURES), np.float32) if self._ask is None else to_array(self._ask.observation)
        return observation, reward, over and not simulation.live, over and bool(simulation.live), self._info(simulation)

    def _decision(self, action: Any) -> Decision:
        if self.stop_thresholds is None:
            return Decision(int(action))
        window, threshold = (int(number) for number in action)
        if not 0 <= threshold < len(self.stop_thresholds):
            raise ValueError(f"threshold {threshold} is outside 0..{len(self.stop_thresholds) - 1}")
        return Decision(window, self.stop_thresholds[threshold] or None)

    def _info(self, simulation: Simulation) -> dict[str, Any]:
        return {
            "stream": self._ask.stream if self._ask else NOBODY,
            "begun": simulation.take_begun(),
            "rounds": simulation.take_rounds(),
            "ended": simulation.take_ended(),
            "reference_ms": simulation.reference_ms,
            "time_ms": simulation.env.now,
        }
