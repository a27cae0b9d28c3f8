"""Import what the runtime logs: `python serve.py edge --log session.jsonl`, one line a round and a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsd_gym.config import ConfigError
from dsd_gym.recorded.positions import Positions
from dsd_gym.recorded.recording import RecordedRequest, read_lines

Fields = Mapping[str, Any]


def read_session_log(path: Path) -> list[RecordedRequest]:
    """Return the requests of all runs of a session log, in the order in which they began.

    A request without a closing line (the edge was killed, or it is still running) is taken as far as it got.

    Raises:
        ConfigError: a line that is none of a session log, rounds that are missing, or runs of different models.
    """
    log = _Log()
    for number, line in enumerate(read_lines(path), 1):
        try:
            if line.strip():
                log.read(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{path}:{number}: not a line of a session log: {reason}") from None
    return log.requests()


class _Log:
    """The requests of a log, as far as it has been read; streams are numbered anew in each run."""

    def __init__(self) -> None:
        self._models: tuple[Any, Any] | None = None
        self._run = 0
        self._positions: dict[tuple[int, int], Positions] = {}
        self._prompts: dict[tuple[int, int], int] = {}

    def read(self, fields: Any) -> None:
        """Take in one line."""
        kind = fields.get("kind") if isinstance(fields, dict) else None
        if kind == "run":
            self._begin(fields)
        elif kind == "round":
            _add_round(self._positions.setdefault(self._key(fields), Positions()), fields)
        elif kind == "request":
            self._end(fields)
        else:
            raise ValueError('expected an object of kind "run", "round" or "request"')

    def requests(self) -> list[RecordedRequest]:
        """Return the requests; those of later runs have the run's number in their id."""
        return [
            RecordedRequest(
                tuple(found.accepted),
                tuple(found.confidence),
                id=f"{stream}" if run <= 1 else f"{run}.{stream}",
                prompt_tokens=self._prompts.get((run, stream)),
                output_tokens=found.count,
            )
            for (run, stream), found in self._positions.items()
        ]

    def _begin(self, fields: Fields) -> None:
        models = (fields["draft"], fields["target"])
        if self._models not in (None, models):
            raise ValueError(f"{' and '.join(models)}, but an earlier run is of {' and '.join(self._models or ())}")
        self._models, self._run = models, self._run + 1

    def _end(self, fields: Fields) -> None:
        """Check that the rounds hold no more tokens than the request; what came after the last was not tested."""
        key, committed = self._key(fields), _count(fields, "committed_tokens")
        self._prompts[key] = _count(fields, "prompt_tokens")
        if found := self._positions.get(key):
            if found.count > committed:
                raise ValueError(f"stream {key[1]} has {committed} tokens, but its rounds have {found.count}")
            found.cloud(committed - found.count)

    def _key(self, fields: Fields) -> tuple[int, int]:
        return self._run, _count(fields, "stream")


def _add_round(positions: Positions, fields: Fields) -> None:
    """Add a round: the tokens decoded in the cloud before its window, then the window."""
    drafted, accepted, cloud_tokens, committed = (
        _count(fields, name) for name in ("drafted", "accepted", "cloud_tokens", "committed")
    )
    positions.cloud(cloud_tokens)
    if drafted:
        positions.window(drafted, accepted, committed - cloud_tokens, _confidences(fields, drafted))
    elif committed != cloud_tokens:
        raise ValueError(f"{committed} committed, {cloud_tokens} of them in the cloud, and nothing drafted")
    else:
        _note_first_guess(positions, fields)


def _note_first_guess(positions: Positions, fields: Fields) -> None:
    """Keep the confidence of a guess that was made, and then left for the cloud to decode."""
    observation = fields.get("observation", {})
    position = int(observation.get("committed_tokens", -1))
    if observation.get("has_first_guess") and 0 < position < positions.count:
        positions.confidence[position] = float(observation["first_guess_confidence"])


def _confidences(fields: Fields, drafted: int) -> list[float]:
    confidences = fields.get("confidences", [])
    if len(confidences) not in (0, drafted):
        raise ValueError(f"{len(confidences)} confidences for {drafted} drafted tokens")
    return [float(value) for value in confidences]


def _count(fields: Fields, name: str) -> int:
    value = fields[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return value
