"""The privileged controller: it reads the flags that the target will answer with."""

from __future__ import annotations

from dsd_gym.acceptance import accepted_run
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from dsd_gym.request import Request
from dsd_gym.simulator import Simulation


class Oracle:
    """Choose, knowing what will be accepted, the window with the least ms a token, others' delay included.

    Foresight of acceptance alone: links and load it estimates as the rules do, so it is a ceiling for those, not the
    optimum of the whole system; and not a rival, for no deployment could run it.
    """

    def __init__(self, max_window: int, price: float = 1.0) -> None:
        self._max_window, self._price = max_window, price
        self._simulation: Simulation | None = None

    def watch(self, simulation: Simulation) -> None:
        """Take hold of the simulation whose requests it will be asked about."""
        self._simulation = simulation

    def begin(self, stream: int, device: int, target: int) -> None:
        """Need no more than the stream's number."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the best window for the flags ahead, or 0 if the rest of the request is cheaper in the cloud."""
        if self._simulation is None:
            raise ValueError("the oracle watches a simulation: run it with simulate()")
        request = self._simulation.live[stream]
        rest = request.arrival.output_tokens - request.committed
        if rest * self._cloud_ms(observation) < self._edge_ms(observation, request, rest):
            return Decision(0)
        run = accepted_run(request.tape.accepted, request.committed, self._max_window)
        return Decision(min(range(1, max(run, 1) + 1), key=lambda k: self._round_ms(observation, k) / (k + (k <= run))))

    def _edge_ms(self, observation: Observation, request: Request, rest: int) -> float:
        """Return the cost of the rest of a request at the edge, each window as long as its run of acceptances."""
        back_ms = observation.smoothed_rtt_ms if observation.cloud_mode else 0.0
        total, position = observation.catch_up_ms + back_ms, request.committed
        while position < request.committed + rest:
            run = accepted_run(request.tape.accepted, position, self._max_window)
            total += self._round_ms(observation, max(run, 1))
            position += run + 1
        return total

    def _round_ms(self, observation: Observation, window: int) -> float:
        """Return the cost of an edge round: a window that finds the target busy waits half an iteration."""
        o = observation
        iteration_ms = max(o.iteration_ms, o.one_token_iteration_ms)
        wait_ms = 0.5 * iteration_ms * (1.0 - 1.0 / max(o.batch_size, 1))
        drafted_ms = window * (o.draft_ms_per_token + o.uplink_ms_per_token)
        return drafted_ms + o.smoothed_rtt_ms + wait_ms + iteration_ms + self._others_ms(o, window + 1)

    def _cloud_ms(self, observation: Observation) -> float:
        iteration_ms = max(observation.iteration_ms, observation.one_token_iteration_ms)
        return iteration_ms + self._others_ms(observation, 1)

    def _others_ms(self, observation: Observation, tokens: int) -> float:
        return self._price * tokens * observation.marginal_ms_per_token * max(observation.batch_size - 1, 0)

    def record(self, round: Round) -> None:
        """Learn nothing: it knows already."""

    def forget(self, stream: int) -> None:
        """Keep nothing."""
