"""Compare the acceptance profiles with published acceptance data, or fit them to it again.

python -m dsd_gym.calibrate_acceptance          # a table for each profile: published, simulated
python -m dsd_gym.calibrate_acceptance --fit    # the parameters anew (needs scipy; two minutes)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from dsd_gym.acceptance import PROFILES, AcceptanceProfile, accepted_run
from dsd_gym.files import Parser, exits_cleanly
from dsd_gym.luck import FloatArray

WINDOW = 10
"""The published depth rates and tokens a step agree with each other at windows of about ten tokens."""


POSITIONS = 400
"""Output tokens of a simulated request: long, so that what requests do not share stands out."""


@dataclass(frozen=True)
class AcceptanceStatistics:
    """What decoding with linear windows of `WINDOW` tokens shows.

    Attributes:
        tokens_per_round: committed tokens, the recovered or bonus token included.
        none_accepted: the share of rounds that accept nothing.
        by_depth: P(accept | depth reached) at depths 1 to 6.
        autocorrelation: of the accepted lengths of consecutive rounds of a request, about the global mean.
        between_requests: the share of the variance of accepted length (analysis of variance, unbiased).
    """

    tokens_per_round: float
    none_accepted: float
    by_depth: tuple[float, ...]
    autocorrelation: float
    between_requests: float

    def values(self) -> FloatArray:
        """Return all the figures in the order of their names, depths spread out."""
        return np.hstack([getattr(self, field.name) for field in fields(self)])


PUBLISHED = {
    "maths": AcceptanceStatistics(2.77, 0.344, (0.656, 0.642, 0.624, 0.646, 0.616, 0.650), 0.034, 0.033),
    "summaries": AcceptanceStatistics(2.75, 0.377, (0.623, 0.618, 0.637, 0.655, 0.677, 0.722), 0.086, 0.037),
    "code": AcceptanceStatistics(2.82, 0.415, (0.585, 0.615, 0.677, 0.739, 0.761, 0.798), 0.240, 0.174),
    "chat": AcceptanceStatistics(2.64, 0.409, (0.591, 0.580, 0.631, 0.680, 0.721, 0.744), 0.198, 0.089),
}
"""Llama-3.1-8B with EAGLE-3 on GSM8K, CNN/DailyMail, InstructCoder and ShareGPT; data of arXiv 2601.11580."""

TOLERANCES = AcceptanceStatistics(0.04, 0.02, (0.03,) * 6, 0.05, 0.03)
"""Absolute, but that of `tokens_per_round`, which is relative."""

CONFIDENCE_CORRELATION = 0.3
"""Of confidence with acceptance; draft entropy was measured at -.15 to -.6 on several pairs."""


def rounds(flags: list[bool]) -> list[int]:
    """Return the accepted lengths of consecutive rounds, while a whole window still fits."""
    lengths, start = [], 0
    while start + WINDOW <= len(flags):
        lengths.append(accepted_run(flags, start, WINDOW))
        start += lengths[-1] + 1
    return lengths


def measure(profile: AcceptanceProfile, requests: int = 1000, seed: int = 0) -> AcceptanceStatistics:
    """Return the statistics of `profile`, simulated over requests of `POSITIONS` output tokens each."""
    tapes = (profile.tape(seed, request, POSITIONS) for request in range(requests))
    by_request = [np.array(rounds(tape.accepted)) for tape in tapes]
    lengths = np.concatenate(by_request)
    mean, variance = lengths.mean(), lengths.var()
    lagged = np.concatenate([(one[:-1] - mean) * (one[1:] - mean) for one in by_request])
    return AcceptanceStatistics(
        tokens_per_round=float(1.0 + mean),
        none_accepted=float((lengths == 0).mean()),
        by_depth=tuple(float((lengths > depth).sum() / (lengths >= depth).sum()) for depth in range(6)),
        autocorrelation=float(lagged.mean() / variance),
        between_requests=_share_between(by_request),
    )


def confidence_correlation(profile: AcceptanceProfile, requests: int = 300, seed: int = 0) -> float:
    """Return the correlation of confidence with acceptance over all positions."""
    tapes = [profile.tape(seed, request, POSITIONS) for request in range(requests)]
    accepted, confidence = [tape.accepted for tape in tapes], [tape.confidence for tape in tapes]
    return float(np.corrcoef(np.ravel(accepted), np.ravel(confidence))[0, 1])


def errors(profile: AcceptanceProfile, published: AcceptanceStatistics, **size: int) -> FloatArray:
    """Return simulated less published figures, in units of `TOLERANCES`."""
    difference = measure(profile, **size).values() - published.values()
    difference[0] /= published.tokens_per_round
    scaled: FloatArray = difference / TOLERANCES.values()
    return scaled


def fit(profile: AcceptanceProfile, published: AcceptanceStatistics) -> AcceptanceProfile:
    """Return `profile` improved to the least sum of fourth powers of errors: none is to lie far off."""
    from scipy.optimize import brentq, minimize

    def candidate(point: FloatArray) -> AcceptanceProfile:
        mean, request, slow, persistence, fast = (float(f"{abs(value):.3g}") for value in point)
        return AcceptanceProfile(profile.name, mean, request, slow, min(persistence, 0.99), fast)

    def loss(point: FloatArray) -> float:
        return float((errors(candidate(point), published, requests=1000, seed=1) ** 4).sum())

    parameters = ("mean_logit", "request_sd", "slow_sd", "slow_correlation", "fast_sd")
    start = np.array([getattr(profile, parameter) for parameter in parameters])
    simplex = np.vstack([start, start + np.diag([0.1, 0.1, 0.2, -0.1, 0.2])])
    options = {"initial_simplex": simplex, "maxfev": 120}
    best = candidate(minimize(loss, start, method="Nelder-Mead", options=options).x)

    def excess(noise: float) -> float:
        return confidence_correlation(replace(best, confidence_noise_sd=noise)) - CONFIDENCE_CORRELATION

    return replace(best, confidence_noise_sd=float(f"{brentq(excess, 0.0, 10.0, xtol=0.01):.3g}"))


def _share_between(groups: list[FloatArray]) -> float:
    """Return the intraclass correlation of a one-way analysis of variance with unequal groups."""
    sizes = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    total, count = sizes.sum(), len(groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (total - count)
    between = (sizes * (means - (sizes * means).sum() / total) ** 2).sum() / (count - 1)
    component = (between - within) / ((total - (sizes**2).sum() / total) / (count - 1))
    return float(component / (component + within))


def _table(profile: AcceptanceProfile, published: AcceptanceStatistics) -> str:
    names = ["tokens a round", "P(none accepted)", *(f"P(accept), depth {d}" for d in range(1, 7))]
    names += ["lag-1 autocorrelation", "share between requests"]
    rows = zip(names, published.values(), measure(profile).values(), errors(profile, published), strict=True)
    lines = [f"{profile.name:24}{'published':>10}{'simulated':>10}{'error/tol':>10}"]
    lines += [f"{name:24}{theirs:10.3f}{ours:10.3f}{error:10.2f}" for name, theirs, ours, error in rows]
    lines += [f"{'confidence':24}{CONFIDENCE_CORRELATION:10.3f}{confidence_correlation(profile):10.3f}"]
    return "\n".join(lines)


@exits_cleanly
def main() -> None:
    """Print the comparison, of refitted profiles if asked."""
    parser = Parser("dsd_gym.calibrate_acceptance", description="Compare the acceptance profiles with published data.")
    parser.add_argument("--fit", action="store_true", help="fit the parameters anew before the comparison")
    again = parser.parse_args().fit
    for name, published in PUBLISHED.items():
        profile = fit(PROFILES[name], published) if again else PROFILES[name]
        print(profile, _table(profile, published), sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
