"""Requests and the luck they meet: arrivals, lengths, devices. Nothing here depends on a decision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from dsd_gym import luck
from dsd_gym.reference import saturation_rate
from dsd_gym.scenario import Scenario, Workload
from dsd_gym.scenario.mix import class_lengths, class_shares, mean_lengths
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
        self._devices = _shuffled(sum(edge.count for edge in scenario.edges), seed)
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
        for stream, arrival_ms in enumerate(self._arrival_times(workload, until_ms)):
            yield self.request(stream, arrival_ms)

    def request(self, stream: int, arrival_ms: float) -> Arrival:
        """Return request `stream` with synthetic lengths."""
        lengths = class_lengths(self._scenario, self._request_class(stream))
        prompt = _log_normal(lengths.prompt_mean, lengths.prompt_median, self._normal(luck.PROMPT_LENGTH, stream))
        output = _log_normal(lengths.output_mean, lengths.output_median, self._normal(luck.OUTPUT_LENGTH, stream))
        return self._arrival(stream, arrival_ms, round(prompt), round(output))

    def think_ms(self, stream: int) -> float:
        """Return the pause before closed-loop request `stream`."""
        think_ms = self._scenario.workload.think_ms
        return -think_ms * math.log(luck.uniform(self._seed, luck.THINK, stream, 0)) if think_ms else 0.0

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
        lengths = class_lengths(self._scenario, kind)
        return Arrival(
            stream,
            arrival_ms,
            max(1, min(prompt, lengths.max_prompt)),
            max(1, min(output, lengths.max_output)),
            self._devices[(stream % self._owners) % len(self._devices)],
            kind,
        )

    def _arrival_times(self, workload: Workload, until_ms: float) -> Iterator[float]:
        """Yield a renewal process at the peak rate, thinned to the rate of the moment."""
        rate = workload.rate_per_s
        if rate is None:
            rate = (workload.load or 0.0) * saturation_rate(self._scenario, *mean_lengths(self._scenario))
        peak = max((piece.factor for piece in workload.pieces), default=1.0) if workload.kind == "piecewise" else 1.0
        if workload.kind == "diurnal":
            peak = 1.0 + workload.swing
        now_ms, index = 0.0, 0
        while now_ms < until_ms:
            now_ms += self._gap(workload, index) * 1000.0 / (rate * peak)
            if luck.uniform(self._seed, luck.ARRIVAL, index, 2) * peak < rate_factor(workload, now_ms):
                yield now_ms
            index += 1

    def _gap(self, workload: Workload, index: int) -> float:
        """Return an inter-arrival time of mean 1: exponential, or two-phase hyperexponential with balanced means."""
        gap = -math.log(luck.uniform(self._seed, luck.ARRIVAL, index, 0))
        if workload.kind != "bursty":
            return gap
        squared = workload.burst_cv**2
        share = 0.5 * (1.0 + math.sqrt((squared - 1.0) / (squared + 1.0)))
        first = luck.uniform(self._seed, luck.ARRIVAL, index, 1) < share
        return gap / (2.0 * (share if first else 1.0 - share))

    def _normal(self, kind: int, stream: int) -> float:
        return float(luck.normals(self._seed, kind, stream, 0, 1)[0])


def rate_factor(workload: Workload, now_ms: float) -> float:
    """Return the arrival rate at `now_ms` relative to the workload's rate."""
    if workload.kind == "piecewise":
        now_ms %= sum(piece.duration_ms for piece in workload.pieces)
        for piece in workload.pieces:
            now_ms -= piece.duration_ms
            if now_ms < 0.0:
                return piece.factor
    if workload.kind == "diurnal":
        return 1.0 + workload.swing * math.sin(2.0 * math.pi * now_ms / workload.period_ms)
    return 1.0


def _log_normal(mean: float, median: float, normal: float) -> float:
    return median * math.exp(math.sqrt(2.0 * math.log(mean / median)) * normal)


def _shuffled(count: int, seed: int) -> list[int]:
    """Return 0..count-1 in a random order: requests go round all devices before one gets its next."""
    return sorted(range(count), key=lambda device: luck.uniform(seed, luck.DEVICE, device, 0))
