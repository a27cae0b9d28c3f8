"""The deployment that requests live in: its machines, who is alive, where requests come from, and the records."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from dsd_gym.acceptance_table import AcceptanceTable
from dsd_gym.admission import make_admission
from dsd_gym.device import Device
from dsd_gym.latency import transmission_ms
from dsd_gym.messages import LAST, Inbox, call_later
from dsd_gym.network import make_links
from dsd_gym.network.region import RegionLink
from dsd_gym.records import Records, RequestRecord, Round, Status
from dsd_gym.reference import class_records, device_figures, draft_row, reference_ms, target_row
from dsd_gym.request import Request
from dsd_gym.routing import Router
from dsd_gym.scenario import Scenario
from dsd_gym.scenario.mix import class_priority, class_slo
from dsd_gym.stream_view import StreamView
from dsd_gym.target import TargetServer
from dsd_gym.target.batch import CloudDraft
from dsd_gym.target.work import Work
from dsd_gym.workload import Arrival, Population

Life = Generator[simpy.Event, Any, None]


class Deployment:
    """Everything of a simulation but what a request does, which the subclass tells in `life`."""

    def __init__(self, scenario: Scenario, seed: int, keep_rounds: bool, keep_requests: bool) -> None:
        self.scenario, self.seed = scenario, seed
        self.env = simpy.Environment()
        self.reference_ms = reference_ms(scenario)
        self.targets = self._make_targets()
        self.devices = self._make_devices()
        self.live: dict[int, Request] = {}
        self.stopped = False
        self._acceptance = AcceptanceTable(scenario)
        self._population = Population(scenario, seed)
        self._router = Router(self.env, scenario, self.targets, seed)
        self._admission = make_admission(self.env, scenario, self.targets)
        self._rounds: list[Round] | None = [] if keep_rounds else None
        self._new_rounds: list[Round] = []
        self._new_begun: list[tuple[int, int, int]] = []
        self._new_ended: list[RequestRecord] = []
        self._requests: list[RequestRecord] | None = [] if keep_requests else None
        self._arrived = self._sources = 0
        self._waited_ms = self._counted_ms = 0.0
        self._open_doors()

    def life(self, request: Request) -> Life:
        """Live through a request."""
        raise TypeError("a deployment's requests are brought to life by a simulation")

    # --- what has happened ------------------------------------------------------------------------------------------

    def note(self, round: Round) -> None:
        """Enter a round that ended."""
        self._new_rounds.append(round)
        if self._rounds is not None:
            self._rounds.append(round)

    def take_rounds(self) -> list[Round]:
        """Return the rounds that ended since the last call."""
        rounds, self._new_rounds = self._new_rounds, []
        return rounds

    def take_begun(self) -> list[tuple[int, int, int]]:
        """Return (stream, device, target) of the requests that arrived since the last call."""
        begun, self._new_begun = self._new_begun, []
        return begun

    def take_ended(self) -> list[RequestRecord]:
        """Return the streams that finished or were rejected since the last call."""
        ended, self._new_ended = self._new_ended, []
        return ended

    def take_waited_ms(self) -> float:
        """Return the ms that passed since the last call, summed over live requests."""
        self._count_waiting()
        waited_ms, self._waited_ms = self._waited_ms, 0.0
        return waited_ms

    def records(self) -> Records:
        """Return what has happened so far; streams still alive stand as in flight."""
        scenario = self.scenario
        return Records(
            scenario.name,
            self.seed,
            scenario.warm_up_ms,
            scenario.horizon_ms,
            scenario.horizon_ms + scenario.drain_ms,
            self.env.now,
            scenario.slo.ttft_ms,
            scenario.slo.tpot_ms,
            (self._requests or []) + [self._record(request, Status.IN_FLIGHT) for request in self.live.values()],
            self._rounds or [],
            [work.record() for work in self._work],
            class_records(scenario),
        )

    # --- who is alive -----------------------------------------------------------------------------------------------

    def _count_waiting(self) -> None:
        """Add the ms since the last change in the number of live requests, once for each of them."""
        self._waited_ms += (self.env.now - self._counted_ms) * len(self.live)
        self._counted_ms = self.env.now

    def enter(self, arrival: Arrival) -> Request:
        """Bring a request into the world: its device, its target, its luck."""
        self._count_waiting()
        device = self.devices[arrival.device]
        routed = self._router.route(arrival.stream, device.class_index, kind := arrival.request_class)
        target = routed.target
        target.live += 1
        process = self._acceptance.process(device.class_index, routed.tier, kind)
        tape = process.tape(self.seed, arrival.stream, arrival.output_tokens + self.scenario.max_window + 1)
        uplink_ms = transmission_ms(self.scenario.messages.draft_token_bytes, device.link.up_mbps)
        view = StreamView(device.estimate_to(routed.rtt_ms), device.draft_ms, uplink_ms)
        promises = class_slo(self.scenario, kind), class_priority(self.scenario, kind)
        request = Request(arrival, device, target, tape, Inbox(self.env), view, *promises)
        if routed.rtt_ms:
            request.link = RegionLink(device.link, routed.rtt_ms)
        self._router.entered(request)
        self.live[arrival.stream] = request
        self._new_begun.append((arrival.stream, arrival.device, self.targets.index(target)))
        return request

    def leave(self, request: Request, finished: bool) -> None:
        """Take a request out of the world: finished, or rejected."""
        self._count_waiting()
        del self.live[request.arrival.stream]
        self._router.left(request)
        record = self._record(request, Status.FINISHED if finished else Status.REJECTED)
        self._new_ended.append(record)
        if self._requests is not None:
            self._requests.append(record)
        self._stop_when_empty()

    def _record(self, request: Request, status: Status) -> RequestRecord:
        arrival = request.arrival
        return RequestRecord(
            arrival.stream,
            arrival.device,
            request.device.class_index,
            self.targets.index(request.target),
            arrival.arrival_ms,
            arrival.prompt_tokens,
            arrival.output_tokens,
            request.committed,
            request.first_token_ms,
            self.env.now if status is Status.FINISHED else None,
            status,
            arrival.request_class,
            request.degraded,
        )

    # --- what it is made of -----------------------------------------------------------------------------------------

    def _make_targets(self) -> list[TargetServer]:
        scenario, cloud = self.scenario, self.scenario.cloud
        specs = [spec for spec in scenario.targets for _ in range(spec.count)]
        self._work = [Work(scenario.warm_up_ms, scenario.horizon_ms) for _ in specs]
        return [
            TargetServer(
                self.env,
                spec,
                target_row(spec),
                scenario.messages,
                cloud.chunk_tokens,
                CloudDraft(draft_row(scenario, spec), cloud.draft_window) if cloud.mode == "draft" else None,
                work,
                place,
            )
            for place, (spec, work) in enumerate(zip(specs, self._work, strict=True))
        ]

    def _make_devices(self) -> list[Device]:
        devices: list[Device] = []
        links = make_links(self.scenario.edges, self.scenario.link, self.seed)
        ahead_limit = self.scenario.max_window + 1 if self.scenario.draft_ahead else 0
        for class_index, edge in enumerate(self.scenario.edges):
            figures = device_figures(edge)
            for _ in range(edge.count):
                devices.append(Device(len(devices), class_index, *figures, links[len(devices)], ahead_limit))
        return devices

    # --- where requests come from -----------------------------------------------------------------------------------

    def _open_doors(self) -> None:
        """Start the arrivals, and set the time when all ends."""
        workload = self.scenario.workload
        if workload.kind == "closed":
            for user in range(workload.users or 0):
                self._sources += 1
                self.env.process(self._user(user, workload.users or 0))
        else:
            self._sources = 1
            self.env.process(self._open_loop())
        call_later(self.env, self.scenario.horizon_ms + self.scenario.drain_ms, self._stop, LAST)

    def _open_loop(self) -> Life:
        for arrival in self._population.arrivals(self.scenario.horizon_ms):
            if self._closed(arrival.arrival_ms):
                break
            yield self.env.timeout(arrival.arrival_ms - self.env.now)
            self._arrived += 1
            self.env.process(self.life(self.enter(arrival)))
        self._end_source()

    def _user(self, user: int, users: int) -> Life:
        stream = user
        while True:
            yield self.env.timeout(self._population.think_ms(stream))
            if self._closed(self.env.now):
                break
            self._arrived += 1
            yield from self.life(self.enter(self._population.request(stream, self.env.now)))
            stream += users
        self._end_source()

    def _closed(self, arrival_ms: float) -> bool:
        limit = self.scenario.max_requests
        return arrival_ms >= self.scenario.horizon_ms or (limit is not None and self._arrived >= limit)

    def _end_source(self) -> None:
        self._sources -= 1
        self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        if not self._sources and not self.live:
            self._stop()

    def _stop(self) -> None:
        self.stopped = True
