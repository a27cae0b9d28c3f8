"""Would the target accept the draft's guess? A flag and a confidence for every output position of a request.

The log-odds of acceptance at a position are a mean, plus the request's own effect, plus a slow difficulty
that wanders over positions (a first-order autoregression), plus a fast one (a difference of neighbours:
after a hard token an easy one is likelier). A round starts just after a rejection: in a hard stretch, so
that acceptance rises with depth, but behind a hard token, so that it does not yet rise from the first guess
to the second. Published data show both, and neither needs a parameter for depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from dsd_gym import luck


def expected_tokens(acceptance_probability: float, window: int) -> float:
    """Return the tokens that a round commits on average: `(1 - a^(k+1)) / (1 - a)`, and k + 1 at a = 1.

    Leviathan et al. (arXiv 2211.17192, equation 1), summed as 1 + a(1 + a(1 + ...)): exact near a = 1 too.
    """
    tokens = 1.0
    for _ in range(window):
        tokens = 1.0 + acceptance_probability * tokens
    return tokens


def accepted_run(flags: Sequence[bool], start: int, window: int) -> int:
    """Return how many of the `window` flags from position `start` on are true before the first false one."""
    stop = min(start + window, len(flags))
    try:
        return flags.index(False, start, stop) - start
    except ValueError:
        return max(stop - start, 0)


def mean_confidence(confidence: Sequence[float], start: int, drafted: int) -> float:
    """Return the mean over `drafted` positions from `start` on, added up in order on every version of Python."""
    total = 0.0
    for position in range(start, start + drafted):
        total += confidence[position]
    return total / drafted


@dataclass(frozen=True, slots=True)
class Tape:
    """What would happen at each output position of one request.

    Attributes:
        accepted: whether the draft's guess there would be accepted.
        confidence: the probability that the draft gives to it, in [0, 1].
    """

    accepted: list[bool]
    confidence: list[float]


class AcceptanceProcess(Protocol):
    """Where tapes come from: a profile, or what was recorded."""

    @property
    def mean_acceptance(self) -> float:
        """The acceptance probability averaged over requests and positions, tested or not."""

    def tape(self, seed: int, request: int, length: int) -> Tape:
        """Return the tape of `length` positions of `request`; a longer one begins with the shorter one."""


def stopped_window(confidence: Sequence[float], stop_threshold: float) -> int:
    """Return how many tokens are drafted until the product of their confidences falls under `stop_threshold`.

    The token that makes it fall is still sent (SpecDec++, arXiv 2405.19715, with 1 - product > h).
    """
    product = 1.0
    for drafted, probability in enumerate(confidence, 1):
        product *= probability
        if product < stop_threshold:
            return drafted
    return len(confidence)


@dataclass(frozen=True)
class AcceptanceProfile:
    """How well a draft model guesses on one kind of text; all in log-odds but `slow_correlation`.

    Attributes:
        name: the kind of text.
        mean_logit: the mean over requests and positions.
        request_sd: standard deviation between requests.
        slow_sd, slow_correlation: standard deviation of the slow difficulty, and its correlation from one
            position to the next, in [0, 1).
        fast_sd: standard deviation of the fast difficulty; neighbours correlate at -1/2, others not at all.
        confidence_noise_sd: the error with which the draft's confidence reads its own log-odds.
    """

    name: str
    mean_logit: float
    request_sd: float = 0.0
    slow_sd: float = 0.0
    slow_correlation: float = 0.0
    fast_sd: float = 0.0
    confidence_noise_sd: float = 0.0

    @property
    def varies(self) -> bool:
        """Whether requests, positions or the draft's readings of them differ at all."""
        return any((self.request_sd, self.slow_sd, self.fast_sd, self.confidence_noise_sd))

    @property
    def mean_acceptance(self) -> float:
        """The acceptance probability averaged over requests and positions, tested or not."""
        logit_sd = math.hypot(self.request_sd, self.slow_sd, self.fast_sd)
        points, weights = _normal_quadrature()
        return float(weights @ sigmoid(self.mean_logit + logit_sd * points) / weights.sum())

    def tape(self, seed: int, request: int, length: int) -> Tape:
        """Return the tape of `length` positions of `request`; a longer one begins with the shorter one."""
        numbers = luck.uniforms(seed, luck.ACCEPT, request, 0, length)
        if not self.varies:
            probability = sigmoid(np.array([self.mean_logit]))
            return Tape((numbers < probability).tolist(), probability.tolist() * length)
        effect = request_effect(seed, request)
        slow, fast, noise = luck.normals(seed, luck.DIFFICULTY, request, 0, 3 * (length + 1)).reshape(-1, 3).T
        logits = _autoregression(self.slow_sd * slow[1:], self.slow_correlation)
        logits += self.fast_sd * math.sqrt(0.5) * np.diff(fast)
        logits += self.mean_logit + self.request_sd * effect
        confidence = sigmoid(logits + self.confidence_noise_sd * noise[1:])
        return Tape((numbers < sigmoid(logits)).tolist(), confidence.tolist())


@cache
def _normal_quadrature() -> tuple[luck.FloatArray, luck.FloatArray]:
    """Return the points and weights of Gauss and Hermite for a standard normal number."""
    return np.polynomial.hermite_e.hermegauss(40)


def request_effect(seed: int, request: int) -> float:
    """Return how much easier a request is than others of its kind: standard normal."""
    return luck.normal(
        luck.uniform(seed, luck.REQUEST_EFFECT, request, 0), luck.uniform(seed, luck.REQUEST_EFFECT, request, 1)
    )


# Fitted to the data that `python -m dsd_gym.calibrate_acceptance` names and compares them with.
PROFILES: dict[str, AcceptanceProfile] = {
    "maths": AcceptanceProfile("maths", 0.722, 0.228, 0.707, 0.179, 0.845, 1.16),
    "summaries": AcceptanceProfile("summaries", 0.798, 0.314, 0.93, 0.748, 1.02, 1.82),
    "code": AcceptanceProfile("code", 1.04, 0.925, 1.25, 0.757, 1.04, 2.83),
    "chat": AcceptanceProfile("chat", 0.839, 0.63, 1.2, 0.822, 1.28, 2.85),
}


def _logit(probability: float) -> float:
    if probability in (0.0, 1.0):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1.0 - probability))


def constant_profile(acceptance_probability: float) -> AcceptanceProfile:
    """Return the profile that accepts each guess with the same probability, from 0 to 1 inclusive."""
    if not 0.0 <= acceptance_probability <= 1.0:
        raise ValueError(f"acceptance_probability must lie between 0 and 1, but is {acceptance_probability}")
    return AcceptanceProfile(f"constant:{acceptance_probability:g}", _logit(acceptance_probability))


# Acceptance at temperature 1 and under greedy decoding, on code, documentation, JSON, arithmetic and logs:
# measured on a Llama target of 5 M parameters and its distilled draft of 0.5 M.
_MEASURED_BY_SAMPLING = ((0.79, 0.62), (0.80, 0.66), (0.95, 0.93), (0.94, 0.89), (0.94, 0.85))
_LOGIT_SHIFT = {
    "greedy": 0.0,
    "temperature_1": sum(_logit(warm) - _logit(cold) for warm, cold in _MEASURED_BY_SAMPLING) / 5,
}


def with_sampling(profile: AcceptanceProfile, sampling: str) -> AcceptanceProfile:
    """Return `profile` under "greedy" decoding or at "temperature_1".

    That the profiles' own data are greedy is an assumption. Speculative sampling at temperature 1 accepts
    more, for it asks that two distributions overlap and not that their modes agree: by 0.72 in log-odds,
    the mean over five kinds of text.
    """
    if sampling not in _LOGIT_SHIFT:
        raise ValueError(f"sampling must be one of {', '.join(_LOGIT_SHIFT)}, but is {sampling!r}")
    return replace(profile, mean_logit=profile.mean_logit + _LOGIT_SHIFT[sampling])


def _autoregression(noise: luck.FloatArray, correlation: float) -> luck.FloatArray:
    """Return the first-order autoregression that has the variance of `noise` from the first position on."""
    innovation = math.sqrt(1.0 - correlation * correlation)
    steps = accumulate(noise.tolist(), lambda last, shock: next_difficulty(last, shock, correlation, innovation))
    return np.fromiter(steps, np.float64, len(noise))


def next_difficulty(last: float, shock: float, correlation: float, innovation: float) -> float:
    """Return the slow difficulty of the position after one of `last`."""
    return correlation * last + innovation * shock


def sigmoid(logits: luck.FloatArray) -> luck.FloatArray:
    """Return the probabilities of log-odds."""
    probabilities: luck.FloatArray = probability_of(np.exp(-logits))
    return probabilities


def probability_of(odds_against: Any) -> Any:
    """Return the probability of what has these odds against it."""
    return 1.0 / (1.0 + odds_against)
