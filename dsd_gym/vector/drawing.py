"""The requests of a run: the numbers of `dsd_gym.workload.Population`, drawn by compiled loops over the same laws."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym import luck
from dsd_gym.laws import ArrivalLaw, LengthLaw
from dsd_gym.vector.compiled import (
    clipped,
    compiled,
    compiled_arrays,
    factor_at,
    log_normal,
    normal,
    owned_device,
    renewal_gap,
    stir,
    uniform,
)
from dsd_gym.vector.layout import NONE, QUEUES, FloatArray, Records, World

Ints = NDArray[np.int64]
_ARRIVAL, _DEVICE, _PROMPT_LENGTH, _OUTPUT_LENGTH = luck.ARRIVAL, luck.DEVICE, luck.PROMPT_LENGTH, luck.OUTPUT_LENGTH
_FIRST_ROOM = 256


class Drawn(NamedTuple):
    """Requests in the order of their numbers, columns by request."""

    first_stream: int
    arrival_ms: FloatArray
    prompt_tokens: Ints
    output_tokens: Ints


def synthetic(law: LengthLaw, seed: int, first: int, arrival_ms: FloatArray) -> Drawn:
    """Return requests with drawn lengths, from stream `first` on."""
    own, count = np.uint64(seed), len(arrival_ms)
    prompts = token_counts(own, _PROMPT_LENGTH, first, count, law.prompt_median, law.prompt_sigma, law.max_prompt)
    outputs = token_counts(own, _OUTPUT_LENGTH, first, count, law.output_median, law.output_sigma, law.max_output)
    return Drawn(first, arrival_ms, prompts, outputs)


@compiled_arrays
def arrival_times(law: ArrivalLaw, seed: np.uint64, until_ms: float, limit: int) -> FloatArray:
    """Return the arrivals of an open loop before `until_ms`, `limit` at most."""
    times, count, now_ms, index = np.empty(_FIRST_ROOM), 0, 0.0, 0
    thinned = law.swing > 0.0 or law.cycle_ms > 0.0
    kind, phase = np.uint64(_ARRIVAL), 0.0
    while count < limit:
        if law.burst_share > 0.0:
            phase = uniform(seed, kind, np.uint64(index), np.uint64(1))
        gap = renewal_gap(uniform(seed, kind, np.uint64(index), np.uint64(0)), phase, law.burst_share)
        now_ms += gap * 1000.0 / law.peak_per_s
        if now_ms >= until_ms:
            break
        if not thinned or uniform(seed, kind, np.uint64(index), np.uint64(2)) * law.peak < factor_at(law, now_ms):
            if count == len(times):
                longer = np.empty(2 * count)
                for place in range(count):  # to assign a slice takes seconds to compile
                    longer[place] = times[place]
                times = longer
            times[count] = now_ms
            count += 1
        index += 1
    return times[:count]


@compiled_arrays
def token_counts(seed: np.uint64, kind: int, first: int, count: int, median: float, sigma: float, most: int) -> Ints:
    """Return the log-normal lengths of `count` requests."""
    tokens = np.empty(count, np.int64)
    for place in range(count):
        stream = np.uint64(first + place)
        radius = uniform(seed, np.uint64(kind), stream, np.uint64(0))
        turn = uniform(seed, np.uint64(kind), stream, np.uint64(1))
        tokens[place] = clipped(round(log_normal(median, sigma, normal(radius, turn))), most)
    return tokens


@compiled
def write_machines(
    worlds: tuple[Any, ...],
    machines: tuple[Records, ...],
    states: Records,
    place: int,
    seed: np.uint64,
    jitter: np.uint64,
) -> None:
    """Put a fresh run's machines and own record at `place`; from `jitter` all stems grow (`dsd_gym.luck.trunk`)."""
    world, (devices, classes, regimes, targets) = World(*worlds), machines
    for number in range(len(devices)):
        world.devices[place, number] = devices[number]
        world.devices[place, number].jitter_stem = stir(jitter, np.uint64(number))
    for number in range(len(classes)):
        world.classes[place, number] = classes[number]
    for number in range(len(regimes)):
        world.regimes[place, number] = regimes[number]
    for number in range(len(targets)):
        world.targets[place, number] = targets[number]
    for number in range(QUEUES * len(targets)):
        world.queues[place, number].count = 0
    world.state[place] = states[0]
    world.state[place].seed = seed
    chain_messages(world.state, world.messages, place, 0)


@compiled
def chain_messages(states: Records, messages: Records, place: int, first: int) -> None:
    """Let the messages from `first` on be free."""
    state, own = states[place], messages[place]
    for number in range(first, len(own)):
        own[number].next = number + 1
    own[len(own) - 1].next = state.free_message if state.free_messages else NONE
    state.free_message = first
    state.free_messages += len(own) - first


@compiled_arrays
def device_numbers(seed: np.uint64, count: int) -> FloatArray:
    """Return the number of each device that puts them in order (`dsd_gym.laws.device_order`)."""
    numbers = np.empty(count)
    for device in range(count):
        numbers[device] = uniform(seed, np.uint64(_DEVICE), np.uint64(device), np.uint64(0))
    return numbers


@compiled
def write_requests(
    requests: Records,
    first: int,
    blank: Records,
    drawn: Drawn,
    lengths: Ints,
    devices: NDArray[np.intp],
    owners: int,
    tape: int,
) -> None:
    """Put requests from place `first` on; their tapes of these lengths lie one after another from `tape` on."""
    for place in range(len(lengths)):
        requests[first + place] = blank[0]
        request = requests[first + place]
        request.arrival_ms = drawn.arrival_ms[place]
        request.prompt_tokens, request.output_tokens = drawn.prompt_tokens[place], drawn.output_tokens[place]
        request.device = devices[owned_device(drawn.first_stream + place, owners, len(devices))]
        request.tape = tape
        tape += lengths[place]
