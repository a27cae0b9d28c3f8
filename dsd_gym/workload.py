"""Requests and the luck they meet: arrivals, lengths, devices. Nothing here depends on a decision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dsd_gym import luck
from dsd_gym.laws import (
    arrival_law,
    clipped,
    device_order,
    factor_at,
    length_law,
    log_normal,
    owned_device,
    renewal_gap,
)
from dsd_gym.scenario import Scenario
from dsd_gym.scenario.mix import class_lengths, class_shares
from dsd_gym.traces import read_trace


class Arrival(NamedTuple):
    """A request before it meets the system. `stream` is its number, unique in a run and independent of decisions."""

    stream: int
    arrival_ms: float
    prompt_tokens: int
    output_tokens: int
    device: int
    request_class: int = 0


class Population:
    """Draws requests: the same one for the same (seed, stream), whenever it is asked for."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario, self._seed = scenario, seed
        self._shares = class_shares(scenario)
        self._lengths = [length_law(class_lengths(scenario, index)) for index in range(len(self._shares))]
        devices = np.arange(sum(edge.count for edge in scenario.edges), dtype=np.uint64)
        self._devices = device_order(luck.uniform(seed, luck.DEVICE, devices, 0)).tolist()
        users = scenario.workload.users if scenario.workload.kind == "closed" else None
        self._owners = users or len(self._devices)  # a closed-loop user keeps one device

    def arrivals(self, until_ms: float = math.inf) -> Iterator[Arrival]:
        """Yield open-loop requests in order of arrival. None is looked for after the first beyond `until_ms`."""
        workload = self._scenario.workload
        if workload.kind == "trace":
            for stream, row in enumerate(read_trace(workload.trace or "", workload.trace_format)):
                since_ms = row.arrival_ms - workload.trace_start_ms
                if since_ms >= 0.0:
                    yield self._arrival(stream, since_ms / workload.rate_scale, row.prompt_tokens, row.output_tokens)
            return
        for stream, arrival_ms in enumerate(self._arrival_times(until_ms)):
            yield self.request(stream, arrival_ms)

    def request(self, stream: int, arrival_ms: float) -> Arrival:
        """Return request `stream` with synthetic lengths."""
        law = self._lengths[self._request_class(stream)]
        prompt = log_normal(law.prompt_median, law.prompt_sigma, self._normal(luck.PROMPT_LENGTH, stream))
        output = log_normal(law.output_median, law.output_sigma, self._normal(luck.OUTPUT_LENGTH, stream))
        return self._arrival(stream, arrival_ms, round(prompt), round(output))

    def think_ms(self, stream: int) -> float:
        """Return the pause before closed-loop request `stream`."""
        think_ms = self._scenario.workload.think_ms
        return luck.exponential(think_ms, luck.uniform(self._seed, luck.THINK, stream, 0)) if think_ms else 0.0

    def _request_class(self, stream: int) -> int:
        """Return the class of a request: drawn by share, whoever sends it."""
        if len(self._shares) == 1:
            return 0
        left = luck.uniform(self._seed, luck.REQUEST_CLASS, stream, 0)
        for index, share in enumerate(self._shares):
            left -= share
            if left < 0.0:
                return index
        return len(self._shares) - 1

    def _arrival(self, stream: int, arrival_ms: float, prompt: int, output: int) -> Arrival:
        kind = self._request_class(stream)
        law = self._lengths[kind]
        return Arrival(
            stream,
            arrival_ms,
            clipped(prompt, law.max_prompt),
            clipped(output, law.max_output),
            self._devices[owned_device(stream, self._owners, len(self._devices))],
            kind,
        )

    def _arrival_times(self, until_ms: float) -> Iterator[float]:
        law = arrival_law(self._scenario)
        thinned = law.swing or law.cycle_ms
        now_ms, index = 0.0, 0
        while now_ms < until_ms:
            phase = luck.uniform(self._seed, luck.ARRIVAL, index, 1) if law.burst_share else 0.0
            gap = renewal_gap(luck.uniform(self._seed, luck.ARRIVAL, index, 0), phase, law.burst_share)
            now_ms += gap * 1000.0 / law.peak_per_s
            if not thinned or luck.uniform(self._seed, luck.ARRIVAL, index, 2) * law.peak < factor_at(law, now_ms):
                yield now_ms
            index += 1

    def _normal(self, kind: int, stream: int) -> float:
        return luck.normal(*(luck.uniform(self._seed, kind, stream, index) for index in range(2)))
