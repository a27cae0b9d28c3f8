"""The tapes of many requests at once: the numbers of `AcceptanceProfile.tape`, drawn by compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsd_gym import luck
from dsd_gym.acceptance import AcceptanceProcess, AcceptanceProfile, sigmoid
from dsd_gym.vector.compiled import compiled, compiled_arrays, next_difficulty, normal, uniform
from dsd_gym.vector.layout import FloatArray

_ACCEPT, _DIFFICULTY, _REQUEST_EFFECT = luck.ACCEPT, luck.DIFFICULTY, luck.REQUEST_EFFECT
Flags = NDArray[np.bool_]
Lengths = NDArray[np.int64]
_BLOCK = 32
"""Requests drawn at a time: all the arrays of one block stay in the cache."""


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
    probability = sigmoid(np.array([process.mean_logit]))
    confidence[:] = probability
    decide(np.uint64(seed), first, lengths, probability, accepted)


def _write_block(
    process: Any, seed: int, first: int, lengths: Lengths, accepted: Flags, confidence: FloatArray
) -> None:
    normals = luck.normals_of(difficulty_numbers(np.uint64(seed), first, lengths))
    correlation = process.slow_correlation
    innovation, fast_sd = math.sqrt(1.0 - correlation * correlation), process.fast_sd * math.sqrt(0.5)
    logits, noise = difficulties(normals, lengths, process.slow_sd, fast_sd, correlation, innovation)
    add_requests(np.uint64(seed), first, lengths, process.mean_logit, process.request_sd, logits)
    decide(np.uint64(seed), first, lengths, sigmoid(logits), accepted)
    noise *= process.confidence_noise_sd
    noise += logits
    confidence[:] = sigmoid(noise)


@compiled
def decide(seed: np.uint64, first: int, lengths: Lengths, probabilities: FloatArray, accepted: Flags) -> None:
    """Write which positions would be accepted; there is a probability for each, or one for all."""
    place, each = 0, len(probabilities) > 1
    probability = probabilities[0] if len(probabilities) else 0.0
    for request in range(len(lengths)):
        stream = np.uint64(first + request)
        for position in range(lengths[request]):
            if each:
                probability = probabilities[place]
            accepted[place] = uniform(seed, np.uint64(_ACCEPT), stream, np.uint64(position)) < probability
            place += 1


@compiled_arrays
def difficulty_numbers(seed: np.uint64, first: int, lengths: Lengths) -> FloatArray:
    """Return the uniform numbers that three normal ones are made of, for each position and one before the first."""
    drawn, place = np.empty(6 * (lengths.sum() + len(lengths))), 0
    for request in range(len(lengths)):
        stream = np.uint64(first + request)
        for index in range(6 * (lengths[request] + 1)):
            drawn[place] = uniform(seed, np.uint64(_DIFFICULTY), stream, np.uint64(index))
            place += 1
    return drawn


@compiled_arrays
def difficulties(
    normals: FloatArray,
    lengths: Lengths,
    slow_sd: float,
    fast_sd: float,
    correlation: float,
    innovation: float,
) -> tuple[FloatArray, FloatArray]:
    """Return the log-odds of each position, and the normal number that blurs the draft's own reading of them."""
    logits, noise = np.empty(lengths.sum()), np.empty(lengths.sum())
    place, row = 0, 0
    for number in range(len(lengths)):
        slow = 0.0
        for position in range(lengths[number]):
            row += 1
            shock = slow_sd * normals[3 * row]
            slow = shock if position == 0 else next_difficulty(slow, shock, correlation, innovation)
            hard = fast_sd * (normals[3 * row + 1] - normals[3 * row - 2])
            logits[place] = slow + hard
            noise[place] = normals[3 * row + 2]
            place += 1
        row += 1
    return logits, noise


@compiled
def add_requests(
    seed: np.uint64, first: int, lengths: Lengths, mean: float, request_sd: float, logits: FloatArray
) -> None:
    """Add the mean and each request's own effect to the log-odds of its positions."""
    place, kind = 0, np.uint64(_REQUEST_EFFECT)
    for request in range(len(lengths)):
        stream = np.uint64(first + request)
        effect = normal(uniform(seed, kind, stream, np.uint64(0)), uniform(seed, kind, stream, np.uint64(1)))
        base = mean + request_sd * effect
        for _ in range(lengths[request]):
            logits[place] += base
            place += 1
