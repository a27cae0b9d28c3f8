"""Luck that no decision can change: random numbers looked up by a key instead of drawn in turn.

A number is a hash of (seed, kind, entity, index): a request's arrival, a link's jitter in one time slot,
the draft's guess at one output position. It is the same in whatever order and however often it is asked
for, so every controller meets identical luck and differences between controllers are paired.

All four words are integers in [0, 2^63). The kinds of luck are the constants below.
"""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

ARRIVAL = 1
PROMPT_LENGTH = 2
OUTPUT_LENGTH = 3
THINK = 4
DEVICE = 5
ROUTE = 6
JITTER = 7
REGIME = 8
ACCEPT = 9
REQUEST_EFFECT = 10
DIFFICULTY = 11
REQUEST_CLASS = 12
LOSS = 100
HANDOVER = 101
TRACE_SHIFT = 102
CONFIDENCE = 110
RECORDING = 111

COMPILED_SIGNATURE = "float64(uint64, uint64, uint64, uint64)"
"""How to compile `uniform`: `numba.njit(COMPILED_SIGNATURE)(uniform)` is equal to it to the bit."""

_WORD = 0xFFFFFFFFFFFFFFFF
_STEP = 0x9E3779B97F4A7C15
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB

_ROOT_OF_HALF = int(np.float64(math.sqrt(0.5)).view(np.int64))
_LOG_2 = math.log(2.0)
_TERMS = 11
_ARTANH = tuple(2.0 / (2 * k + 1) for k in range(_TERMS))
_SINE = tuple((-1.0) ** k * (math.pi / 2) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(_TERMS))


@overload
def uniform(seed: int, kind: int, entity: int, index: int) -> float: ...
@overload
def uniform(seed: int, kind: int, entity: int, index: NDArray[np.uint64]) -> FloatArray: ...
@overload
def uniform(seed: int, kind: int, entity: NDArray[np.uint64], index: int) -> FloatArray: ...
def uniform(seed: int, kind: int, entity: Any, index: Any) -> Any:
    """Return a uniform number in the open interval (0, 1), a multiple of 2^-53.

    Each word is stirred in with the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014; constants of
    Stafford's Mix13). The one formula serves plain integers, arrays of entities or indices and numba, with equal bits.
    """
    z = _STEP
    for word in (seed, kind, entity, index):
        z = ((z ^ word) + _STEP) & _WORD  # plain integers do not wrap at 64 bits by themselves
        z = ((z ^ (z >> 30)) * _FIRST_FACTOR) & _WORD
        z = ((z ^ (z >> 27)) * _SECOND_FACTOR) & _WORD
        z = z ^ (z >> 31)
    return ((z >> 12) + 0.5) * 2.0**-52


def stem(seed: int, kind: int, entity: int) -> int:
    """Return what `uniform` makes of its first three words, for an entity that asks for many numbers one by one."""
    return stir(trunk(seed, kind), entity)


def trunk(seed: int, kind: int) -> int:
    """Return what `uniform` makes of its first two words."""
    return stir(stir(_STEP, seed), kind)


def uniform_from(stem: int, index: int) -> float:
    """Return `uniform` of the stem's three words and `index`, equal to the bit."""
    return unit(stir(stem, index))


def unit(z: int) -> float:
    """Return the number in (0, 1) that 64 bits stand for."""
    return ((z >> 12) + 0.5) * 2.0**-52


def stir(z: int, word: int) -> int:
    """Return 64 bits made of 64 others and a word."""
    z = ((z ^ word) + _STEP) & _WORD
    z = ((z ^ (z >> 30)) * _FIRST_FACTOR) & _WORD
    z = ((z ^ (z >> 27)) * _SECOND_FACTOR) & _WORD
    return z ^ (z >> 31)


def uniforms(seed: int, kind: int, entity: int, start: int, stop: int) -> FloatArray:
    """Return `uniform` at the indices `start` to `stop - 1`, equal to the bit."""
    return uniform(seed, kind, entity, np.arange(start, stop, dtype=np.uint64))


def normal(first: float, second: float) -> float:
    """Return a standard normal number made of two uniform ones (Box and Muller, 1958)."""
    return math.sqrt(-2.0 * math.log(first)) * math.cos(2.0 * math.pi * second)


def exponential(mean: float, number: float) -> float:
    """Return an exponential number of that mean, made of a uniform one."""
    return -mean * math.log(number)


def normals(seed: int, kind: int, entity: int, start: int, stop: int) -> FloatArray:
    """Return standard normal numbers `start` to `stop - 1`; numbers 2i and 2i + 1 are made of those two uniforms.

    Number 2i equals `normal` of them up to rounding.
    """
    first = start - start % 2
    pairs = uniforms(seed, kind, entity, first, stop + stop % 2)
    bits = pairs[0::2].view(np.int64)
    exponents = binary_exponent(bits)
    result = np.empty(len(pairs))
    result[0::2], result[1::2] = box_muller(exponents, mantissa_bits(bits, exponents).view(np.float64), pairs[1::2])
    return result[start - first : stop - first]


def binary_exponent(bits: Any) -> Any:
    """Return the e for which a positive number of these bits is m 2^e, with m from sqrt(1/2) to sqrt(2)."""
    return (bits - _ROOT_OF_HALF) >> 52


def mantissa_bits(bits: Any, exponent: Any) -> Any:
    """Return the bits of that m."""
    return bits - (exponent << 52)


def box_muller(exponent: Any, mantissa: Any, turn: Any) -> tuple[Any, Any]:
    """Return two standard normal numbers made of two uniform ones: `mantissa 2^exponent` and `turn`.

    Additions, multiplications, divisions and roots alone, which all machines round alike: arrays under numpy and
    single numbers under numba give equal bits, and numba does many at a time. The logarithm is that of 2^exponent and
    2 artanh((m - 1) / (m + 1)), cosine and sine of 2 pi u are sines of angles up to pi/2, each by as much of its series
    as a float64 can hold.
    """
    r, h = (mantissa - 1.0) / (mantissa + 1.0), 1.0 - 4.0 * abs(turn - 0.5)
    g = 1.0 - abs(h)
    x, y, z, a, s = r * r, h * h, g * g, _ARTANH, _SINE
    logarithm = a[8] + x * (a[9] + x * a[10])
    cosine = s[8] + y * (s[9] + y * s[10])
    sine = s[8] + z * (s[9] + z * s[10])
    logarithm = a[4] + x * (a[5] + x * (a[6] + x * (a[7] + x * logarithm)))
    cosine = s[4] + y * (s[5] + y * (s[6] + y * (s[7] + y * cosine)))
    sine = s[4] + z * (s[5] + z * (s[6] + z * (s[7] + z * sine)))
    logarithm = a[0] + x * (a[1] + x * (a[2] + x * (a[3] + x * logarithm)))
    cosine = s[0] + y * (s[1] + y * (s[2] + y * (s[3] + y * cosine)))
    sine = s[0] + z * (s[1] + z * (s[2] + z * (s[3] + z * sine)))
    radius = np.sqrt(-2.0 * (exponent * _LOG_2 + r * logarithm))
    return -radius * (h * cosine), radius * (g * sine) * (1.0 - 2.0 * (turn > 0.5))
