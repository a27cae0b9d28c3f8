"""What a scenario sets besides its key figures: the keys that differ from the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dsd_gym.config import to_dict
from dsd_gym.scenario import EdgeClass, LinkSpec, Scenario, TargetClass

TOLD = {
    "name", "description", "score", "router", "max_window", "warm_up_ms", "horizon_ms", "drain_ms", "max_requests",
    "edges.*.hardware", "edges.*.count", "edges.*.draft_ms_per_token",
    "targets.*.device", "targets.*.model", "targets.*.tensor_parallel", "targets.*.count",
    "acceptance.profile", "acceptance.probability", "acceptance.sampling",
    "cloud.mode", "cloud.draft_model", "cloud.draft_window", "slo.ttft_ms", "slo.tpot_ms",
}  # fmt: skip
"""Keys that the key figures tell already, `*` for a place in a list; so do all of `TOLD_PARTS`, and links' basics."""

TOLD_PARTS = ("lengths", "workload")
LINK_BASICS = ("rtt_ms", "jitter_ms", "up_mbps", "down_mbps", "regimes")


def other_settings(config: Mapping[str, Any]) -> list[str]:
    """Return `key: value` of every setting that is neither a default nor among the key figures."""
    found = []
    for key, value in _differences(config, to_dict(Scenario()), ""):
        parts = key.split(".")
        pattern = ".".join("*" if part.isdecimal() else part for part in parts)
        told_link = "link" in parts[:-1] and parts[-1] in LINK_BASICS
        if not (pattern in TOLD or parts[0] in TOLD_PARTS or told_link):
            found.append(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
    return found


def _differences(data: Mapping[str, Any], defaults: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what differs; a list of machines against one machine's defaults."""
    for key, value in data.items():
        at, default = f"{path}{key}", defaults.get(key)
        if key in _ITEMS and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _differences(item, _ITEMS[key], f"{at}.{index}.")
        elif isinstance(value, dict):
            yield from _differences(value, default or (_LINK if key == "link" else {}), f"{at}.")
        elif value != default:
            yield at, value


_LINK = to_dict(LinkSpec())
_ITEMS = {"edges": to_dict(EdgeClass()), "targets": to_dict(TargetClass())}
