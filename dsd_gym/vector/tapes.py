"""The tapes of many requests at once: the numbers of `AcceptanceProfile.tape`, drawn by compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym import luck
from dsd_gym.acceptance import AcceptanceProcess, AcceptanceProfile
from dsd_gym.vector.compiled import (
    binary_exponent,
    box_muller,
    compiled,
    compiled_arrays,
    mantissa_bits,
    next_difficulty,
    normal,
    part,
    probability_of,
    uniform,
)
from dsd_gym.vector.layout import FloatArray

_ACCEPT, _DIFFICULTY, _REQUEST_EFFECT = luck.ACCEPT, luck.DIFFICULTY, luck.REQUEST_EFFECT
Flags = NDArray[np.bool_]
Lengths = NDArray[np.int64]
_BLOCK = 128
"""Requests drawn at a time: the arrays of one block stay in the cache."""


def write_tapes(
    process: AcceptanceProcess,
    seed: int,
    first: int,
    lengths: Lengths,
    accepted: Flags,
    confidence: FloatArray,
) -> None:
    """Write what would be accepted, and the draft's confidence, at all positions of the streams from `first` on."""
    write, block = _write_block, _BLOCK
    if not isinstance(process, AcceptanceProfile):
        write, block = _write_each, len(lengths)
    elif not process.varies:
        write, block = _write_constant, len(lengths)
    start = 0
    for request in range(0, len(lengths), max(1, block)):
        some = lengths[request : request + block]
        stop = start + int(some.sum())
        write(process, seed, first + request, some, accepted[start:stop], confidence[start:stop])
        start = stop


def _write_each(
    process: AcceptanceProcess, seed: int, first: int, lengths: Lengths, accepted: Flags, confidence: FloatArray
) -> None:
    start = 0
    for stream, length in enumerate(lengths.tolist(), first):
        tape = process.tape(seed, stream, length)
        accepted[start : start + length], confidence[start : start + length] = tape.accepted, tape.confidence
        start += length


def _write_constant(
    process: Any, seed: int, first: int, lengths: Lengths, accepted: Flags, confidence: FloatArray
) -> None:
    against = np.full(len(accepted), np.exp(np.array([-process.mean_logit])))
    decide(np.uint64(seed), first, lengths, against, against, accepted, confidence)


def _write_block(
    process: Any, seed: int, first: int, lengths: Lengths, accepted: Flags, confidence: FloatArray
) -> None:
    correlation = process.slow_correlation
    innovation, fast_sd = math.sqrt(1.0 - correlation * correlation), process.fast_sd * math.sqrt(0.5)
    request, slow = (process.mean_logit, process.request_sd), (process.slow_sd, correlation, innovation)
    deviations = fast_sd, process.confidence_noise_sd
    against, seeming = difficulties(np.uint64(seed), first, lengths, request, slow, deviations)
    np.exp(against, out=against)  # numpy has this one for whole vectors
    np.exp(seeming, out=seeming)
    decide(np.uint64(seed), first, lengths, against, seeming, accepted, confidence)


@compiled
def decide(
    seed: np.uint64,
    first: int,
    lengths: Lengths,
    against: FloatArray,
    seeming: FloatArray,
    accepted: Flags,
    confidence: FloatArray,
) -> None:
    """Write which positions would be accepted, and the draft's confidence, given the odds against and as they seem."""
    place = 0
    for request in range(len(lengths)):
        stream = np.uint64(first + request)
        for position in range(lengths[request]):
            number = uniform(seed, np.uint64(_ACCEPT), stream, np.uint64(position))
            accepted[place] = number < probability_of(against[place])
            confidence[place] = probability_of(seeming[place])
            place += 1


@compiled_arrays
def difficulties(
    seed: np.uint64,
    first: int,
    lengths: Lengths,
    request: tuple[float, float],
    slow: tuple[float, float, float],
    deviations: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """Return the log-odds against each position, and what the draft takes them for.

    `request` is the mean and the deviation of requests, `slow` the deviation, correlation and innovation of the slow
    difficulty, `deviations` those of the fast one and of the noise in the draft's reading.
    """
    against, seeming = np.empty(lengths.sum()), np.empty(lengths.sum())
    pairs = (3 * (max(lengths) + 1) + 1) // 2
    radii, turns, normals, exponents = np.empty(pairs), np.empty(pairs), np.empty(2 * pairs), np.empty(pairs, np.int64)
    mean, request_sd = request
    (slow_sd, correlation, innovation), (fast_sd, noise_sd) = slow, deviations
    place, kind = 0, np.uint64(_REQUEST_EFFECT)
    for number in range(len(lengths)):
        stream = np.uint64(first + number)
        effect = normal(uniform(seed, kind, stream, np.uint64(0)), uniform(seed, kind, stream, np.uint64(1)))
        base, difficulty = mean + request_sd * effect, 0.0
        fill_normals(seed, stream, (3 * (lengths[number] + 1) + 1) // 2, radii, turns, exponents, normals)
        for position in range(lengths[number]):
            row = 3 * (position + 1)
            shock = slow_sd * normals[row]
            difficulty = shock if position == 0 else next_difficulty(difficulty, shock, correlation, innovation)
            hard = fast_sd * (normals[row + 1] - normals[row - 2])
            logit = difficulty + hard + base
            against[place], seeming[place] = -logit, -(logit + noise_sd * normals[row + 2])
            place += 1
    return against, seeming


@part
def fill_normals(
    seed: np.uint64,
    stream: np.uint64,
    pairs: int,
    radii: FloatArray,
    turns: FloatArray,
    exponents: NDArray[np.int64],
    normals: FloatArray,
) -> None:
    """Write the first `pairs` of normal numbers of a request: three for each position and one before the first.

    In loops so plain that a processor does several numbers at a time.
    """
    kind, bits = np.uint64(_DIFFICULTY), radii.view(np.int64)
    for index in range(pairs):
        radii[index] = uniform(seed, kind, stream, np.uint64(2 * index))
    for index in range(pairs):
        turns[index] = uniform(seed, kind, stream, np.uint64(2 * index + 1))
    for index in range(pairs):
        exponents[index] = binary_exponent(bits[index])
        bits[index] = mantissa_bits(bits[index], exponents[index])
    for index in range(pairs):
        radii[index], turns[index] = box_muller(exponents[index], radii[index], turns[index])
    for index in range(pairs):
        normals[2 * index], normals[2 * index + 1] = radii[index], turns[index]
