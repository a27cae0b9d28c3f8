"""A device: the time of its draft model, and its link: `dsd_gym.network.link` and `regimes` over records."""

from __future__ import annotations

from typing import Any

import numpy as np

from dsd_gym import luck
from dsd_gym.vector.compiled import (
    INFINITY,
    at,
    exponential,
    first_state,
    next_state,
    one_way_ms,
    part,
    stir,
    transmission_ms,
    uniform,
    unit,
)
from dsd_gym.vector.layout import Cell

_REGIME = luck.REGIME


@part
def class_of(cell: Cell, device: Any) -> Any:
    """Return what the device has in common with others."""
    return cell.classes[at(device.device_class)]


@part
def compute(device: Any, now_ms: float, work_ms: float) -> float:
    """Book the draft model for `work_ms` from `now_ms` on and return when it will be done."""
    device.busy_until_ms = max(now_ms, device.busy_until_ms) + work_ms
    return device.busy_until_ms  # type: ignore[no-any-return]


@part
def jitter_ms(device: Any, own: Any, now_ms: float) -> float:
    if own.mean_jitter_ms == 0.0:
        return 0.0
    slot = int(now_ms / own.slot_ms)
    if slot != device.slot:  # messages of one slot share its number
        device.slot = slot
        device.slot_jitter_ms = exponential(own.mean_jitter_ms, unit(stir(device.jitter_stem, np.uint64(slot))))
    return device.slot_jitter_ms  # type: ignore[no-any-return]


@part
def next_regime(cell: Cell, number: int) -> None:
    """Go on to the device's next regime."""
    device, seed = cell.devices[at(number)], cell.state.seed
    own = class_of(cell, device)
    which = uniform(seed, np.uint64(_REGIME), np.uint64(number), np.uint64(2 * device.regime_index))
    if own.regimes == 1:
        device.regime, length_ms = 0, INFINITY
    else:
        dwells_ms = cell.regimes[own.first_regime : own.first_regime + own.regimes]["dwell_ms"]
        if device.regime_index == 0:
            device.regime = first_state(which, dwells_ms)
        else:
            device.regime = next_state(which, device.regime, own.regimes)
        dwell = uniform(seed, np.uint64(_REGIME), np.uint64(number), np.uint64(2 * device.regime_index + 1))
        length_ms = exponential(dwells_ms[device.regime], dwell)
    device.regime_index += 1
    device.regime_begins_ms = device.regime_ends_ms
    device.regime_ends_ms = device.regime_begins_ms + length_ms


@part
def find_regime(cell: Cell, number: int, now_ms: float) -> None:
    """Let the device's regime be that of `now_ms`; an earlier time than the last is looked for from the start."""
    device = cell.devices[at(number)]
    if now_ms < device.regime_begins_ms:
        device.regime_index, device.regime_begins_ms, device.regime_ends_ms = 0, 0.0, 0.0
    while device.regime_ends_ms <= now_ms:
        next_regime(cell, number)


@part
def way(cell: Cell, number: int, now_ms: float, message_bytes: float, up: bool) -> tuple[float, float]:
    """Return (propagation ms, transmission ms) of a message that leaves at `now_ms`, to the cloud or back."""
    device = cell.devices[at(number)]
    own = class_of(cell, device)
    leaves_ms, rtt_factor, bandwidth_factor = now_ms, 1.0, 1.0
    if own.regimes:
        find_regime(cell, number, now_ms)
        while cell.regimes[at(own.first_regime + device.regime)].outage:
            leaves_ms = device.regime_ends_ms
            find_regime(cell, number, leaves_ms)
        regime = cell.regimes[at(own.first_regime + device.regime)]
        rtt_factor, bandwidth_factor = regime.rtt_factor, regime.bandwidth_factor
    share = own.up_share if up else 1.0 - own.up_share
    bandwidth_mbps = own.up_mbps if up else own.down_mbps
    noise_ms = jitter_ms(device, own, leaves_ms)
    way_ms = one_way_ms(share, own.rtt_ms, rtt_factor, noise_ms)
    return leaves_ms - now_ms + way_ms, transmission_ms(message_bytes, bandwidth_mbps * bandwidth_factor)
