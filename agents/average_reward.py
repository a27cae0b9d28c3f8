"""The long-run optimum: one more token is worth drafting while it earns more than the time it takes."""

from __future__ import annotations

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.pricing import (
    best_window,
    cloud_ms_per_token,
    first_guess_acceptance,
    others_ms_per_token,
    round_ms_per_token,
)
from dsd_gym.records import Decision, Round


class Rate:
    """A device's long-run tokens a ms; older rounds fade."""

    __slots__ = ("_ms", "_tokens")

    def __init__(self) -> None:
        self._tokens = self._ms = 0.0

    def add(self, tokens: float, elapsed_ms: float, memory_ms: float) -> None:
        """Take in a round; what lies `memory_ms` back counts 1/e."""
        kept = memory_ms / (memory_ms + max(elapsed_ms, 0.0))
        self._tokens, self._ms = kept * self._tokens + tokens, kept * self._ms + max(elapsed_ms, 0.0)

    def per_ms(self, first_guess: float, guess_ms: float) -> float:
        """Return tokens a ms, `first_guess` counting as if it had been seen for `guess_ms`."""
        return (self._tokens + first_guess * guess_ms) / (self._ms + guess_ms)


class AverageReward(Controller):
    """Draft one more token iff P(the window so far and it are accepted) >= rho x ms that it takes (Dinkelbach, 1967).

    rho is the tokens a ms that the device earns in the long run: time spent on a token could have earned rho
    elsewhere. It is learned from the rounds of each device, so the round trip of the moment does not enter: it is
    paid whatever the window (a sunk cost), where a rule that optimises each round's own ratio stretches windows on a
    slow moment. A token takes the draft's step, the uplink, and at the target its marginal ms, for which the others
    of the batch are charged at `price`.
    Cloud decoding is chosen where it is cheaper than the edge round by `cloud_margin` (a fraction).
    The constants are chosen by `python -m agents.tune average-reward`.
    """

    FIRST_GUESS_MS = 500.0
    """How long the rate of `leviathan`'s best window counts, until rounds have been seen."""

    def __init__(
        self, max_window: int, price: float = 2.0, cloud_margin: float = 0.3, memory_ms: float = 10_000.0
    ) -> None:
        self._max_window, self._price, self._cloud_margin = max_window, price, cloud_margin
        self._memory_ms = memory_ms
        self._devices: dict[int, int] = {}
        self._rates: dict[int, Rate] = {}

    def begin(self, stream: int, device: int, target: int) -> None:
        """Note whose rate the stream shares."""
        self._devices[stream] = device

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window at which the next token would cost more than it earns, or 0."""
        window = self._window(observation, self._rate(stream))
        edge_ms = round_ms_per_token(observation, window, self._price)
        cloud_ms = cloud_ms_per_token(observation, self._price)
        return Decision(0 if cloud_ms < edge_ms * (1.0 - self._cloud_margin) else window)

    def _window(self, observation: Observation, rate: Rate) -> int:
        o = observation
        rho = rate.per_ms(self._first_guess(o), self.FIRST_GUESS_MS)
        token_ms = o.uplink_ms_per_token + o.marginal_ms_per_token + self._price * others_ms_per_token(o)
        prefix, window = first_guess_acceptance(o), 1
        while window < self._max_window:
            prefix *= o.acceptance_estimate
            if prefix < rho * (o.draft_ms_per_token + token_ms):
                break
            window += 1
        return window

    def _first_guess(self, observation: Observation) -> float:
        """Return tokens a ms of the best window for the request itself."""
        best = best_window(observation, self._max_window, 0.0, self._cloud_margin)
        if best == 0:
            return 1.0 / max(cloud_ms_per_token(observation, 0.0), 1e-3)
        return 1.0 / max(round_ms_per_token(observation, best, 0.0), 1e-3)

    def record(self, round: Round) -> None:
        """Learn from what a round earned and took."""
        self._rate(round.stream).add(round.committed, round.elapsed_ms, self._memory_ms)

    def forget(self, stream: int) -> None:
        """Drop the stream's device, and keep the device's rate."""
        self._devices.pop(stream, None)

    def _rate(self, stream: int) -> Rate:
        return self._rates.setdefault(self._devices.get(stream, 0), Rate())
