"""Luck: the same whatever is asked for first, uniform, independent between keys, and equal when compiled."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym import luck

WORDS = st.integers(0, 2**62)
KINDS = [value for name, value in vars(luck).items() if name[0] != "_" and type(value) is int]


def kolmogorov_distance(sample: np.ndarray) -> float:
    """Return the largest distance between the distribution functions of `sample` and of a uniform number."""
    ranks = np.arange(len(sample) + 1) / len(sample)
    ordered = np.sort(sample)
    return float(max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max()))


def test_kinds_are_distinct() -> None:
    assert len(KINDS) >= 11
    assert len(KINDS) == len(set(KINDS))


@given(WORDS, WORDS, WORDS, st.integers(0, 2**40), st.integers(1, 40))
def test_arrays_equal_scalars_in_any_order(seed: int, kind: int, entity: int, start: int, n: int) -> None:
    backwards = [luck.uniform(seed, kind, entity, index) for index in reversed(range(start, start + n))]
    one_by_one = backwards[::-1]
    stem = luck.stem(seed, kind, entity)
    assert [luck.uniform_from(stem, index) for index in range(start, start + n)] == one_by_one
    assert luck.uniforms(seed, kind, entity, start, start + n).tolist() == one_by_one
    assert luck.uniforms(seed, kind, entity, start + n // 2, start + n).tolist() == one_by_one[n // 2 :]
    assert all(0.0 < value < 1.0 for value in one_by_one)


def test_compiled_equals_interpreted_to_the_bit() -> None:
    uniform = numba.njit(luck.COMPILED_SIGNATURE)(luck.uniform)
    normal = numba.njit(luck.normal)

    @numba.njit
    def draws(seed: int, count: int) -> list[float]:
        return [uniform(seed, luck.JITTER, 7, index) for index in range(count)]

    for seed in (0, 1, 2**40 + 3):
        compiled = draws(seed, 2000)
        assert compiled == luck.uniforms(seed, luck.JITTER, 7, 0, 2000).tolist()
        pairs = list(zip(compiled[::2], compiled[1::2], strict=True))
        assert [normal(*pair) for pair in pairs] == [luck.normal(*pair) for pair in pairs]


@pytest.mark.parametrize("word", range(4))
def test_uniform_along_every_word_of_the_key(word: int) -> None:
    keys = [[3, 1, 4, 1] for _ in range(20_000)]
    for number, key in enumerate(keys):
        key[word] = number
    sample = np.array([luck.uniform(*key) for key in keys])
    # A sound generator exceeds this bound once in a thousand samples.
    assert kolmogorov_distance(sample) < 1.95 / math.sqrt(len(sample))
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 3.5 / math.sqrt(len(sample))
    assert len(np.unique(sample)) == len(sample)


def test_keys_that_differ_in_one_word_or_swap_words_are_independent() -> None:
    base = (5, 6, 7)
    others = [(6, 6, 7), (5, 7, 7), (5, 6, 8), (6, 5, 7), (5, 7, 6), (5 + 2**32, 6, 7)]
    streams = np.array([luck.uniforms(*key, 0, 20_000) for key in [base, *others]])
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 4.0 / math.sqrt(20_000)


def test_every_bit_of_the_key_changes_half_of_the_outcome() -> None:
    def bits(*key: int) -> int:
        return int(luck.uniform(*key) * 2.0**52)

    rng = np.random.default_rng(0)
    for word in range(4):
        for bit in range(0, 62, 3):
            flipped = 0
            for _ in range(50):
                key = [int(value) for value in rng.integers(0, 2**62, 4)]
                other = [value ^ (1 << bit) if place == word else value for place, value in enumerate(key)]
                flipped += (bits(*key) ^ bits(*other)).bit_count()
            assert abs(flipped / (50 * 52) - 0.5) < 0.06


def sine_normal(first: float, second: float) -> float:
    return math.sqrt(-2.0 * math.log(first)) * math.sin(2.0 * math.pi * second)


def test_normals_are_standard_normal_and_do_not_depend_on_the_slice() -> None:
    sample = luck.normals(1, luck.DIFFICULTY, 2, 0, 50_000)
    assert luck.normals(1, luck.DIFFICULTY, 2, 33, 777).tolist() == sample[33:777].tolist()
    assert luck.normals(1, luck.DIFFICULTY, 2, 40, 41).tolist() == sample[40:41].tolist()
    partners = sample.reshape(-1, 2).T
    for one, other in (partners, partners**2, np.abs(partners), partners**3):
        assert abs(np.corrcoef(one, other)[0, 1]) < 3.5 / math.sqrt(len(one))
    distribution = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in sample])
    assert kolmogorov_distance(distribution) < 1.95 / math.sqrt(len(sample))
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 3.5 / math.sqrt(len(sample))


def test_scalar_normal_agrees_with_the_array() -> None:
    pairs = luck.uniforms(1, luck.JITTER, 2, 0, 2000).reshape(-1, 2).tolist()
    array = luck.normals(1, luck.JITTER, 2, 0, 2000)
    assert [luck.normal(*pair) for pair in pairs] == pytest.approx(array[0::2], abs=1e-12)
    assert [sine_normal(*pair) for pair in pairs] == pytest.approx(array[1::2], abs=1e-12)


def test_normal_numbers_are_right_at_the_ends_of_both_uniform_ones_and_where_mantissas_wrap() -> None:
    ends = [2.0**-53, 0.25, 0.5**0.5, 0.5, 0.75, 1.0 - 2.0**-53]
    ends += [float(np.nextafter(end, side)) for end in ends[1:-1] for side in (0.0, 1.0)]
    radii, turns = (grid.ravel() for grid in np.meshgrid(np.array(ends), np.array(ends)))
    bits = radii.view(np.int64)
    exponents = luck.binary_exponent(bits)
    mantissas = luck.mantissa_bits(bits, exponents).view(np.float64)
    assert mantissas.min() >= 0.5**0.5 and mantissas.max() < 2.0**0.5
    np.testing.assert_array_equal(np.ldexp(mantissas, exponents), radii)
    pairs = list(zip(radii.tolist(), turns.tolist(), strict=True))
    first, second = luck.box_muller(exponents, mantissas, turns)
    assert first == pytest.approx([luck.normal(*pair) for pair in pairs], rel=0.0, abs=2e-14)
    assert second == pytest.approx([sine_normal(*pair) for pair in pairs], rel=0.0, abs=2e-14)
