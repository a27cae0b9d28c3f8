"""A bandit for each device and load: try windows, and keep to those that have earned most."""

from __future__ import annotations

import math
from bisect import bisect_right

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round

WINDOWS = (0, 4, 8, 2)
"""The arms, in the order in which they are first tried. Few: a device sees some hundred rounds."""
LOADS = (3, 10, 32, 100)
"""Reported batch sizes at which another bandit takes over."""
Kind = tuple[int, int, int]
"""Load, and the doublings of round trip and of draft ms: devices that are alike, alike loaded."""


class Arm:
    """What a window has earned: committed tokens, the ms they took, and how many rounds."""

    __slots__ = ("ms", "rounds", "tokens")

    def __init__(self) -> None:
        self.tokens = self.ms = self.rounds = 0.0

    def add(self, tokens: float, elapsed_ms: float) -> None:
        """Take in a round."""
        self.tokens, self.ms, self.rounds = self.tokens + tokens, self.ms + elapsed_ms, self.rounds + 1.0


class Play:
    """The arm that a stream is playing, for which bandit, and for how many more rounds."""

    __slots__ = ("device", "in_cloud", "kind", "left", "window")

    def __init__(self, device: int) -> None:
        self.device, self.kind, self.window, self.left = device, (-1, 0, 0), -1, 0
        self.in_cloud = False


class Ucb(Controller):
    """UCB1 over windows, one bandit for each device and load bucket; deterministic.

    After BanditSpec (2505.15141: speculation's setting as a bandit's arm) and Nightjar (2512.22420: one bandit for
    each batch size, and an arm that switches speculation off; here window 0, cloud decoding). An arm's worth is its
    tokens a ms, as a fraction of the best arm's; to it UCB adds `exploration` x sqrt(ln(rounds) / rounds of the arm).
    A device starts from what devices of its kind have seen, which counts as `PRIOR_ROUNDS` rounds of each arm: its
    own experience soon outweighs that. Going to the cloud or back takes a round trip that staying does not, so a
    stream keeps an arm for `hold` rounds, and the first round after a change of place teaches nothing.
    `exploration` and `hold` are chosen by `python -m agents.tune ucb`.
    """

    PRIOR_ROUNDS = 10.0
    """This and the arms were tried by hand, on other draws of the training family than tuning's."""

    def __init__(self, max_window: int, exploration: float = 0.1, hold: int = 8) -> None:
        self._windows = tuple(dict.fromkeys(min(window, max_window) for window in WINDOWS))
        self._exploration, self._hold = exploration, int(hold)
        self._own: dict[tuple[int, int], dict[int, Arm]] = {}
        self._alike: dict[Kind, dict[int, Arm]] = {}
        self._plays: dict[int, Play] = {}

    def begin(self, stream: int, device: int, target: int) -> None:
        """Note whose bandits the stream plays."""
        self._plays[stream] = Play(device)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window in play, or the arm of the highest index."""
        play = self._plays.setdefault(stream, Play(0))
        kind = kind_of(observation)
        if play.left <= 0 or play.kind[0] != kind[0]:
            play.kind, play.left = kind, self._hold
            play.window = self._best(play)
        play.left -= 1
        return Decision(play.window)

    def record(self, round: Round) -> None:
        """Credit the arm with what the round earned; a round of a window that is no arm is left out."""
        play = self._plays.get(round.stream)
        if play is None or round.window not in self._windows or round.elapsed_ms <= 0.0:
            return
        moved = play.in_cloud != (round.window == 0)
        play.in_cloud = round.window == 0
        if not moved:
            for arms in (self._own.setdefault((play.device, play.kind[0]), {}), self._alike.setdefault(play.kind, {})):
                arms.setdefault(round.window, Arm()).add(round.committed, round.elapsed_ms)

    def forget(self, stream: int) -> None:
        """Drop what the stream was playing, and keep what was learned."""
        self._plays.pop(stream, None)

    def _best(self, play: Play) -> int:
        own, alike = self._own.get((play.device, play.kind[0]), {}), self._alike.get(play.kind, {})
        untried = next((window for window in self._windows if window not in alike), None)
        if untried is not None:
            return untried
        arms = {window: self._worth(own.get(window), alike[window]) for window in self._windows}
        best_rate = max(rate for rate, _ in arms.values()) or 1.0
        rounds = sum(count for _, count in arms.values())
        return max(
            self._windows,
            key=lambda w: arms[w][0] / best_rate + self._exploration * math.sqrt(math.log(rounds) / arms[w][1]),
        )

    def _worth(self, own: Arm | None, alike: Arm) -> tuple[float, float]:
        """Return an arm's tokens a ms and rounds: the device's own, and those of its kind as a few more."""
        share = min(1.0, self.PRIOR_ROUNDS / alike.rounds)
        tokens, ms, rounds = share * alike.tokens, share * alike.ms, share * alike.rounds
        if own is not None:
            tokens, ms, rounds = tokens + own.tokens, ms + own.ms, rounds + own.rounds
        return tokens / ms, rounds


def kind_of(observation: Observation) -> Kind:
    """Return what a device and its load are like."""
    o = observation
    return bisect_right(LOADS, o.batch_size), doublings(o.smoothed_rtt_ms / 4.0), doublings(o.draft_ms_per_token)


def doublings(ratio: float) -> int:
    """Return how often 1 doubles up to 1 + ratio, in whole steps."""
    return int(math.log2(1.0 + ratio))
