"""Import vLLM's per-request acceptance: `vllm serve ... --per-request-spec-decode-metrics detailed`.

A response then holds, under metrics.speculative_decoding, the lists `per_step_accepted` and `per_step_drafted`, one
entry a verification step (https://docs.vllm.ai/en/v0.32.0/features/speculative_decoding/acceptance_metrics/).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dsd_gym.config import ConfigError
from dsd_gym.recorded.positions import Positions
from dsd_gym.recorded.recording import RecordedRequest, read_lines

ACCEPTED, DRAFTED = "per_step_accepted", "per_step_drafted"


def read_vllm(path: Path) -> list[RecordedRequest]:
    """Return a recorded request for each pair of lists in a file of JSON or JSON lines.

    An item is a response of vLLM, its `metrics`, or an object with the two lists; lists of lists hold a request each.

    Raises:
        ConfigError: not JSON, an item without the two lists, or lists that make no steps.
    """
    requests: list[RecordedRequest] = []
    for place, item in _items(path):
        try:
            requests += _requests(item)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{place}: not vLLM's acceptance metrics: {error}") from None
    return requests


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the items of one JSON document, or of JSON lines, with the place of each."""
    lines = read_lines(path)
    try:
        whole = json.loads("\n".join(lines))
    except ValueError:
        yield from _lines(path, lines)
    else:
        items = whole if isinstance(whole, list) else [whole]
        for index, item in enumerate(items):
            yield (f"{path}: item {index}" if isinstance(whole, list) else f"{path}", item)


def _lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{path}:{number}: not JSON: {error}") from None


def _requests(item: Any) -> Iterator[RecordedRequest]:
    metrics = _metrics(item)
    accepted, drafted = metrics[ACCEPTED], metrics[DRAFTED]
    if not isinstance(accepted, list) or not isinstance(drafted, list) or len(accepted) != len(drafted):
        raise ValueError(f"{ACCEPTED} and {DRAFTED} must be two lists of one length")
    if accepted and all(isinstance(entry, list) for entry in [*accepted, *drafted]):
        yield from (_request({}, *steps) for steps in zip(accepted, drafted, strict=True))
    else:
        yield _request(item, accepted, drafted)


def _metrics(item: Any) -> dict[str, Any]:
    """Return the object that holds the two lists: the item, or where a response has it."""
    found = item
    for key in ("metrics", "speculative_decoding"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise ValueError(f"expected an object with {ACCEPTED} and {DRAFTED}")
    for name in (ACCEPTED, DRAFTED):
        if name not in found:
            raise ValueError(f"{name} is missing; vLLM reports it with --per-request-spec-decode-metrics detailed")
    return found


def _request(response: dict[str, Any], accepted: list[Any], drafted: list[Any]) -> RecordedRequest:
    """Return the positions of one request's steps, cut where its output ended.

    The last step may have accepted more drafts than the output had room for: `usage.completion_tokens` tells.
    """
    positions = Positions()
    if len(accepted) != len(drafted):
        raise ValueError(f"{len(accepted)} steps accepted, but {len(drafted)} drafted")
    for won, tried in zip(accepted, drafted, strict=True):
        if type(won) is not int or type(tried) is not int:
            raise ValueError(f"{ACCEPTED} and {DRAFTED} must hold whole numbers")
        positions.window(tried, won, won + 1)
    usage, name = response.get("usage"), response.get("id")
    usage = usage if isinstance(usage, dict) else {}
    flags = positions.accepted[: usage.get("completion_tokens")]
    return RecordedRequest(
        tuple(flags),
        id=None if name is None else str(name),
        prompt_tokens=usage.get("prompt_tokens"),
        output_tokens=len(flags),
    )
