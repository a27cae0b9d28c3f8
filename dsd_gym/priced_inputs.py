"""What priced policies and trees see beside the observation: the analytic estimate of what each window costs.

A small network does not find the cost of a round by itself: a quotient, with a wait that jumps where a pass is just
missed. Given the estimate (`dsd_gym.pricing`), it learns what that leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURES, Feature, Observation, scale_feature
from dsd_gym.pricing import first_guess_acceptance, iteration_ms, others_ms_per_token, round_own_ms

WINDOWS = (1, 2, 4, 6, 8, 10, 12, 16)
"""Windows whose excess is told; the best is sought among all up to the last, whatever a policy may choose itself."""
PRICES = (1.0, 3.0)
"""Of the delay put on others: what training charges (`agents.train_config.Credit`), and more than that."""
MOST_MS, KNEE_MS = 4000.0, 1.0

_RATIO = "1/2 + 1/2 ln(cost of cloud decoding / cost of the best window)"
_ESTIMATES = {
    "best_ms_per_token": Feature("ms", MOST_MS, KNEE_MS, "expected cost of the best window, at price 1"),
    "best_window": Feature("tokens", WINDOWS[-1], None, "the best window, at price 1"),
    "cloud_over_edge": Feature("1", 1.0, None, f"{_RATIO}, at price 1"),
    "best_window_dear": Feature("tokens", WINDOWS[-1], None, "the best window, at price 3"),
    "cloud_over_edge_dear": Feature("1", 1.0, None, f"{_RATIO}, at price 3"),
}
_FIRST = len(_ESTIMATES)
PRICED_INPUTS = _ESTIMATES | {
    f"excess_{window}": Feature("1", 1.0, None, f"ln(cost of window {window} / cost of the best), at price 1")
    for window in WINDOWS
}
"""In the order in which `fill_estimates` writes them."""
ASKED = FEATURES | PRICED_INPUTS
"""What a tree may ask about."""


def fill_estimates(observation: Observation, inputs: MutableSequence[float]) -> None:
    """Write what `PRICED_INPUTS` names, in own units.

    Plain arithmetic and loops, so that numba can compile it too (`dsd_gym.vector.rules`). The costs are those of
    `round_ms_per_token` and `cloud_ms_per_token`, each round's time and tokens estimated once for both prices.
    """
    others_ms, pass_ms = others_ms_per_token(observation), max(iteration_ms(observation), 1e-3)
    best, least_ms, best_dear, least_dear_ms = 0, math.inf, 0, math.inf
    acceptance, first = observation.acceptance_estimate, first_guess_acceptance(observation)
    place, expected = _FIRST, 1.0
    for window in range(1, WINDOWS[-1] + 1):
        tokens = 1.0 + first * expected  # `round_tokens`, one more at a time
        expected = 1.0 + acceptance * expected
        own_ms, delay_ms = max(round_own_ms(observation, window), 1e-3) / tokens, (window + 1) * others_ms / tokens
        cost_ms, dear_ms = own_ms + PRICES[0] * delay_ms, own_ms + PRICES[1] * delay_ms
        if window in WINDOWS:
            inputs[place] = cost_ms
            place += 1
        if cost_ms < least_ms:
            best, least_ms = window, cost_ms
        if dear_ms < least_dear_ms:
            best_dear, least_dear_ms = window, dear_ms
    inputs[0], inputs[1], inputs[2] = least_ms, best, _share((pass_ms + PRICES[0] * others_ms) / least_ms)
    inputs[3], inputs[4] = best_dear, _share((pass_ms + PRICES[1] * others_ms) / least_dear_ms)
    for place in range(len(WINDOWS)):
        inputs[_FIRST + place] = min(1.0, math.log(inputs[_FIRST + place] / least_ms))


def fill_priced(observation: Observation, inputs: MutableSequence[float]) -> None:
    """Write the same, each clipped and scaled to [0, 1]."""
    fill_estimates(observation, inputs)
    inputs[0] = scale_feature(inputs[0], MOST_MS, KNEE_MS)
    inputs[1], inputs[3] = inputs[1] / WINDOWS[-1], inputs[3] / WINDOWS[-1]


def _share(ratio: float) -> float:
    return min(1.0, max(0.0, 0.5 + 0.5 * math.log(ratio)))


def priced(observation: Observation) -> list[float]:
    """Return the scaled inputs of one observation."""
    inputs = [0.0] * len(PRICED_INPUTS)
    fill_priced(observation, inputs)
    return inputs


def priced_many(seen: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the scaled inputs, (n, inputs), for rows of features in their own units, (n, features)."""
    return _filled(fill_priced, seen).astype(np.float32)


def asked(observation: Observation) -> list[float]:
    """Return what `ASKED` names of one observation, in own units."""
    inputs = [0.0] * len(PRICED_INPUTS)
    fill_estimates(observation, inputs)
    return [*observation, *inputs]


def asked_many(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same, (n, asked), for rows of features."""
    return np.hstack([seen, _filled(fill_estimates, seen)])


def _filled(fill: Callable[..., None], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    from dsd_gym.vector.rules import filled_rows  # numba: nobody who decides for one request at a time needs it

    inputs = np.empty((len(seen), len(PRICED_INPUTS)))
    filled_rows(fill)(seen, inputs)
    return inputs
