"""Why a stream ends early, as gRPC says it: a status code, one clear line, and a hint when to come back."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from runtime.messages import Busy, Disconnected, Refused
from runtime.target.engine import PassFailed
from runtime.wire.metadata import RETRY_KEY


class Abort(Exception):
    """The end of a stream: `reason` is what it is counted as."""

    def __init__(self, code: grpc.StatusCode, reason: str, details: str, retry_ms: float | None = None) -> None:
        super().__init__(details)
        self.code, self.reason, self.details, self.retry_ms = code, reason, details, retry_ms


def abort_for(error: Exception) -> Abort:
    """Return how a stream ends after `error`."""
    if isinstance(error, Abort):
        return error
    if isinstance(error, Busy):
        return Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", str(error), error.retry_ms)
    if isinstance(error, PassFailed):
        return Abort(grpc.StatusCode.UNKNOWN, "failed", str(error))
    if isinstance(error, Refused):
        return Abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid", str(error))
    if isinstance(error, DecodeError):
        return Abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid", "not a message of this protocol")
    if isinstance(error, Disconnected):
        return Abort(grpc.StatusCode.UNAVAILABLE, "stopped", str(error))
    return Abort(grpc.StatusCode.UNKNOWN, "failed", "the target failed on this request")


async def end(context: Any, abort: Abort) -> NoReturn:
    """End a call with its status."""
    hint = () if abort.retry_ms is None else ((RETRY_KEY, str(math.ceil(abort.retry_ms))),)
    await context.abort(abort.code, abort.details, hint)
    raise AssertionError("abort always raises")
