"""What a controller would choose: its window over RTT x acceptance at three loads, without a simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dsd_gym.comparison.evaluation import WindowMap
from dsd_gym.controller import Controller
from dsd_gym.hardware import TargetHardware, edge_hardware, target_hardware
from dsd_gym.latency import added_tokens_ms
from dsd_gym.observation import Observation

RTT_MS = tuple(float(ms) for ms in np.geomspace(2.0, 300.0, 21).round(1))
ACCEPTANCE = tuple(float(a) for a in np.linspace(0.3, 0.95, 27).round(3))
BATCH_SIZES = (2, 24, 96)

_TARGET = ("a100", "Llama-2-70b", 4)
_EDGE = "l40s/Llama-3.2-1B"
_WINDOW = 4
"""Drafted by everybody in the batch, and by the request itself in its last round."""
_CONTEXT_TOKENS = 320
_COMMITTED_TOKENS = 64
_REPEATS = 10
"""A smoothing controller is asked so often in the same place, on one stream, before its answer is read."""


def window_maps(
    spec: str, make_controller: Callable[[str, int], Controller], max_window: int
) -> Iterator[WindowMap]:
    """Yield the map of a controller at each of `BATCH_SIZES`."""
    target = target_hardware(*_TARGET)
    for batch_size in BATCH_SIZES:
        controller = make_controller(spec, max_window)
        windows = tuple(
            tuple(settled_window(controller, observation_at(rtt, acceptance, batch_size)) for rtt in RTT_MS)
            for acceptance in ACCEPTANCE
        )
        yield WindowMap(spec, target.name, batch_size, RTT_MS, ACCEPTANCE, windows, max_window)


def setting(found: WindowMap) -> str:
    """Return what stands at either end of the link in a map, and at which the request is."""
    draft_ms = edge_hardware(_EDGE).draft_ms_per_token
    return f"target {found.target}, draft {_EDGE} ({draft_ms:.1f} ms a token), a request at the edge"


def settled_window(controller: Controller, observation: Observation) -> int:
    """Return the window that a fresh stream settles on where nothing changes."""
    window = 0
    for _ in range(_REPEATS):
        window = controller.decide(observation, 0).window
    controller.forget(0)
    return window


def observation_at(rtt_ms: float, acceptance: float, batch_size: int) -> Observation:
    """Return what a request sees mid-way, everybody in the batch drafting `_WINDOW` tokens."""
    target, edge = target_hardware(*_TARGET), edge_hardware(_EDGE)
    tokens = batch_size * (_WINDOW + 1)
    iteration_ms = target.iteration_ms(tokens, batch_size, batch_size * _CONTEXT_TOKENS)
    accepted = min(round(acceptance * _WINDOW), _WINDOW)
    return Observation(
        acceptance_estimate=acceptance,
        last_window=_WINDOW,
        last_accepted=accepted,
        all_accepted=accepted == _WINDOW,
        has_last_round=True,
        first_guess_confidence=acceptance,
        has_first_guess=True,
        last_mean_confidence=acceptance,
        has_last_confidence=True,
        cloud_mode=False,
        draft_ms_per_token=edge.draft_ms_per_token,
        last_rtt_ms=rtt_ms,
        smoothed_rtt_ms=rtt_ms,
        rtt_deviation_ms=0.1 * rtt_ms,
        uplink_ms_per_token=0.001,
        queue_wait_ms=_wait_ms(target, batch_size, iteration_ms),
        iteration_ms=iteration_ms,
        batch_size=batch_size,
        iteration_tokens=tokens,
        marginal_ms_per_token=added_tokens_ms(
            tokens + 1, 1, target.token_ms, target.weights_ms, target.compute_ms
        ),
        one_token_iteration_ms=target.one_token_iteration_ms,
        report_age_ms=rtt_ms / 2.0 + edge.draft_ms_per_token,
        catch_up_ms=0.0,
        context_tokens=_CONTEXT_TOKENS,
        committed_tokens=_COMMITTED_TOKENS,
    )


def _wait_ms(target: TargetHardware, batch_size: int, iteration_ms: float) -> float:
    """Return the mean wait for the next of back-to-back iterations: half of one."""
    return iteration_ms / 2.0 if batch_size > 1 else 0.0
