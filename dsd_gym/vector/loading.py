"""A scenario and a seed become the first state of a row of the twin's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dsd_gym.acceptance_table import AcceptanceTable
from dsd_gym.latency import transmission_ms
from dsd_gym.laws import ArrivalLaw, LengthLaw, arrival_law, length_law
from dsd_gym.reference import device_figures, reference_ms, target_row
from dsd_gym.scenario import LinkSpec, Scenario, TargetClass
from dsd_gym.vector.drawing import Drawn, arrival_times, synthetic
from dsd_gym.vector.layout import DEVICE, DEVICE_CLASS, NONE, REGIME, STATE, TARGET, Records
from dsd_gym.vector.support import check_supported
from dsd_gym.workload import Arrival, Population

CLOSED_BLOCK = 4
"""Requests of each closed-loop user that are drawn at a time: how many they will come to is not known before."""

UNLIMITED = int(np.iinfo(np.int64).max)


class Deployment:
    """What a scenario's runs have in common, as records: its machines and its reference."""

    def __init__(self, scenario: Scenario) -> None:
        check_supported(scenario)
        self.scenario = scenario
        self.reference_ms = reference_ms(scenario)
        self.users = scenario.workload.users or 0 if scenario.workload.kind == "closed" else 0
        self.targets = _targets([spec for spec in scenario.targets for _ in range(spec.count)])
        self.process = AcceptanceTable(scenario).process(0, 0, 0)
        self.request_limit = UNLIMITED if scenario.max_requests is None else scenario.max_requests

    @cached_property
    def regimes(self) -> Records:
        """The regimes of all links one after another."""
        rows = [
            (regime.dwell_ms, regime.rtt_factor, regime.bandwidth_factor, regime.outage)
            for link in self._links()
            for regime in link.regimes
        ]
        return np.array(rows, REGIME)

    @cached_property
    def devices(self) -> Records:
        """The devices, before anything has happened."""
        counts = [edge.count for edge in self.scenario.edges]
        devices = np.zeros(sum(counts), DEVICE)
        devices["slot"], devices["device_class"] = -1, np.repeat(np.arange(len(counts)), counts)
        return devices

    @cached_property
    def classes(self) -> Records:
        """What the devices of each class have in common."""
        scenario, regime = self.scenario, 0
        classes = np.zeros(len(scenario.edges), DEVICE_CLASS)
        for row, edge, link in zip(classes, scenario.edges, self._links(), strict=True):
            row["draft_ms"], row["prefill_ms"] = device_figures(edge)
            row["uplink_ms_per_token"] = transmission_ms(scenario.messages.draft_token_bytes, link.up_mbps)
            row["rtt_ms"], row["mean_jitter_ms"], row["slot_ms"] = link.rtt_ms, link.jitter_ms, link.jitter_slot_ms
            row["up_mbps"], row["down_mbps"], row["up_share"] = link.up_mbps, link.down_mbps, link.up_share
            row["first_regime"], row["regimes"] = regime, len(link.regimes)
            regime += len(link.regimes)
        return classes

    @cached_property
    def state(self) -> Records:
        """The deployment's own record, before anything has happened, (1,)."""
        scenario, state = self.scenario, np.zeros(1, STATE)
        state["asking"], state["woken"] = NONE, NONE
        state["targets"], state["users"] = len(self.targets), self.users
        state["horizon_ms"], state["warm_up_ms"] = scenario.horizon_ms, scenario.warm_up_ms
        state["reference_ms"], state["arrival_limit"] = self.reference_ms, self.request_limit
        for name in ("header_bytes", "prompt_token_bytes", "draft_token_bytes", "committed_token_bytes"):
            state[name] = getattr(scenario.messages, name)
        state["max_window"] = scenario.max_window
        state["chunk_tokens"], state["think_ms"] = scenario.cloud.chunk_tokens, scenario.workload.think_ms
        return state

    @cached_property
    def _arrival_law(self) -> ArrivalLaw:
        law = arrival_law(self.scenario)
        return law._replace(durations_ms=np.array(law.durations_ms), factors=np.array(law.factors))

    @cached_property
    def _length_law(self) -> LengthLaw:
        return length_law(self.scenario.lengths)

    def draw(self, seed: int, first: int) -> Drawn:
        """Return the requests from `first` on: all that are left, or a block of each closed-loop user's."""
        scenario = self.scenario
        if self.users:
            return synthetic(self._length_law, seed, first, np.zeros(CLOSED_BLOCK * self.users))
        if scenario.workload.kind == "trace":
            return self._replayed(seed)
        times_ms = arrival_times(self._arrival_law, np.uint64(seed), scenario.horizon_ms, self.request_limit)
        return synthetic(self._length_law, seed, 0, times_ms)

    def _replayed(self, seed: int) -> Drawn:
        arrivals = list[Arrival]()
        for arrival in Population(self.scenario, seed).arrivals():
            if arrival.arrival_ms >= self.scenario.horizon_ms or len(arrivals) >= self.request_limit:
                break
            arrivals.append(arrival)
        return Drawn(
            arrivals[0].stream if arrivals else 0,
            np.array([arrival.arrival_ms for arrival in arrivals], np.float64),
            np.array([arrival.prompt_tokens for arrival in arrivals], np.int64),
            np.array([arrival.output_tokens for arrival in arrivals], np.int64),
        )

    def _links(self) -> list[LinkSpec]:
        return [edge.link or self.scenario.link for edge in self.scenario.edges]


def _targets(specs: Sequence[TargetClass]) -> Records:
    targets = np.zeros(len(specs), TARGET)
    shared = [name for name in TARGET.names or () if name.endswith("_ms") and hasattr(target_row(specs[0]), name)]
    for target, spec in zip(targets, specs, strict=True):
        row = target_row(spec)
        for name in shared:
            target[name] = getattr(row, name)
        target["host_ms"] = spec.host_ms
        target["one_token_ms"] = row.one_token_iteration_ms + spec.host_ms
        target["max_sequences"], target["max_batch_tokens"] = spec.max_sequences, spec.max_batch_tokens
        target["chunk_limit"], target["max_queue"] = spec.prefill_chunk_tokens or 0, spec.max_queue
        target["capacity"] = target["free"] = spec.kv_tokens or row.kv_capacity_tokens
        target["idle"], target["wakes_ms"] = 1, np.inf
    return targets
