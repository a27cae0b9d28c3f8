"""Errors as the OpenAI API tells them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from runtime.messages import Busy, Disconnected, Failed, Misfit, Refused

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        retry_ms: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers: dict[str, str] = {}
        if retry_ms is not None:  # the second header is what OpenAI's clients look at first
            self.headers = {"retry-after": str(math.ceil(retry_ms / 1000)), "retry-after-ms": str(math.ceil(retry_ms))}

    def response(self) -> JSONResponse:
        """Return it as a response."""
        return JSONResponse(self.body, self.status, self.headers)


def busy(message: str, retry_ms: float) -> ApiError:
    """Return the error for a request that should come again later."""
    return ApiError(429, message, kind="rate_limit_error", code="rate_limit_exceeded", retry_ms=retry_ms)


def as_api_error(error: Exception) -> ApiError:
    """Return what a client is told about any error; the unexpected is logged and told without details."""
    match error:
        case ApiError():
            return error
        case Busy():
            return busy(f"The target is busy: {error}", error.retry_ms)
        case Disconnected():
            message = f"The target cannot be reached: {error}"
            return ApiError(503, message, kind="server_error", code="target_unreachable", retry_ms=1000)
        case ClientDisconnect():
            return ApiError(400, "The client went away before its request was complete.")
        case Failed():
            return ApiError(500, f"The target failed: {error}", kind="server_error", code="target_failed")
        case Misfit():
            message = f"The target does not serve this server: {error}"
            return ApiError(502, message, kind="server_error", code="target_refused")
        case Refused():
            return ApiError(400, f"The request cannot be served: {error}", code="refused")
    log.error("a request failed", exc_info=error)
    return ApiError(500, "The server had an error; its log says more.", kind="server_error", code="internal_error")


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    """Answer with an error of our own or, last of all, an unexpected one."""
    return as_api_error(error).response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer for a route that does not exist, or not with this method."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        answer = ApiError(405, f"Not allowed: {what}.", code="method_not_allowed")
    else:
        answer = ApiError(error.status_code, f"Unknown request URL: {what}.", code="unknown_url")
    answer.headers.update(error.headers or {})
    return answer.response()
