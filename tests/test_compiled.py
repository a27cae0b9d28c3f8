"""Formulas compile under numba and equal their Python selves, so that a compiled twin can share them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import FunctionType

import numba
import numpy as np
import pytest

from dsd_gym import acceptance, latency, observation, theory
from dsd_gym.vector.shown import shown

FORMULAS = [f for _, f in inspect.getmembers(latency, inspect.isfunction)]
FORMULAS += [acceptance.expected_tokens, observation.scale_feature]


def arguments(formula: Callable[..., float], random: np.random.Generator) -> list[float]:
    """Return sizes where the annotation says int, and figures elsewhere."""
    names = inspect.signature(formula).parameters.values()
    figures = [int(random.integers(0, 200)) if p.annotation == "int" else float(random.uniform(0, 3)) for p in names]
    if formula is observation.scale_feature:
        figures[2] *= random.integers(2)  # a knee of 0 is linear
    return [f or 0.5 if p.name.endswith("mbps") else f for f, p in zip(figures, names, strict=True)]


def compiled(formula: Callable[..., float]) -> Callable[..., float]:
    """Compile a formula, and first those of the project that it calls."""
    assert isinstance(formula, FunctionType)
    scope = {name: numba.njit(v) if v is acceptance.expected_tokens else v for name, v in formula.__globals__.items()}
    return numba.njit(FunctionType(formula.__code__, scope, formula.__name__))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "formula", [*FORMULAS, theory.zero_load_tpot_ms, theory.break_even_rtt_ms], ids=lambda f: f.__name__
)
def test_formula_compiles_and_is_equal(formula: Callable[..., float]) -> None:
    fast, random = compiled(formula), np.random.default_rng(1)
    for _ in range(200):
        given = arguments(formula, random)
        assert math.isclose(fast(*given), formula(*given), rel_tol=1e-12, abs_tol=1e-12)


def test_every_latency_formula_is_among_them() -> None:
    assert {f.__name__ for f in FORMULAS} >= {
        *("iteration_ms", "added_tokens_ms", "prefill_attention_ms", "transmission_ms", "externality_ms"),
        *("expected_tokens", "scale_feature"),
    }


def test_scaling_one_feature_equals_the_array() -> None:
    random, features = np.random.default_rng(2), observation.FEATURES
    for _ in range(100):
        values = [feature.high * random.uniform(-0.2, 1.5) for feature in features.values()]
        pairs = zip(values, features.values(), strict=True)
        scaled = [observation.scale_feature(value, feature.high, feature.knee or 0.0) for value, feature in pairs]
        array = observation.to_array(observation.Observation(*values))  # type: ignore[arg-type]
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
        np.testing.assert_allclose(array, scaled, rtol=1e-6, atol=1e-7)


def test_what_many_are_shown_is_what_each_is_shown_and_never_above_1() -> None:
    random, high = np.random.default_rng(3), observation.HIGH
    seen = random.uniform(size=(3000, len(high))) ** 3 * high * 1.01
    near = high * random.uniform(1.0 - 1e-6, 1.0, (3000, len(high)))
    for rows in (seen, near, np.zeros((1, len(high))), high[None]):
        many = shown(rows)
        np.testing.assert_array_equal(many, observation.scaled(rows))
        np.testing.assert_array_equal(many, [observation.scaled(row) for row in rows])
        assert many.dtype == np.float32 and many.min() >= 0.0 and many.max() <= 1.0
