"""The edge's side of a gRPC connection: its settings, and what the target's status codes mean to a request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from dsd_gym.config import ConfigError
from runtime.address import is_loopback
from runtime.messages import Busy, Disconnected, Failed, Misfit, Refused
from runtime.tls import channel_credentials
from runtime.wire.metadata import RETRY_KEY, TOKEN_KEY, TOKEN_SCHEME

KEEPALIVE_MS = 10_000
TRANSPORT = [
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, without the old one's back-off
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
]
_REFUSED: dict[grpc.StatusCode, type[Refused]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.OUT_OF_RANGE: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Misfit,
    grpc.StatusCode.UNAUTHENTICATED: Misfit,
    grpc.StatusCode.PERMISSION_DENIED: Misfit,
    grpc.StatusCode.UNIMPLEMENTED: Misfit,
    grpc.StatusCode.UNKNOWN: Failed,  # INTERNAL is gRPC's own word for a broken stream
}
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "not in peer certificate", "Hostname Verification")


@dataclass(frozen=True)
class Identity:
    """How an edge trusts a target and proves who it is. Without `ca` the connection is plaintext, and proves nothing
    beyond this machine unless it may be `insecure`."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for a token that no header can carry, and for a certificate that nobody would see."""
        if self.ca is None and (self.certificate or self.key):
            raise ConfigError("a client certificate needs TLS: give the authority of the target's (--tls-ca) as well")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError("the token holds characters that cannot be sent: printable ASCII only")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes with every call."""
        return ((TOKEN_KEY, TOKEN_SCHEME + self.token),) if self.token else ()

    def connect(self, address: str) -> grpc.aio.Channel:
        """Return a channel; it connects with its first call."""
        if self.ca is None:
            if self.token and not self.insecure and not is_loopback(address):
                raise ConfigError(
                    f"{address}: the token would cross the network in clear; give the authority of the target's "
                    "certificate (--tls-ca), or say that it may be insecure (--insecure)"
                )
            return grpc.aio.insecure_channel(address, TRANSPORT)
        return grpc.aio.secure_channel(address, channel_credentials(self.ca, self.certificate, self.key), TRANSPORT)


async def failure_of(call: Any) -> Busy | Disconnected | Refused:
    """Return what the status of a call that has ended means."""
    code, details = await call.code(), await call.details() or ""
    if code in _REFUSED:
        return _REFUSED[code](details)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        for key, value in await call.trailing_metadata() or ():
            if key == RETRY_KEY:
                return Busy(details, float(value))
        return Refused(details)
    cause = details.rpartition("last error: UNKNOWN: ")[2]  # gRPC's own words about it come before
    if any(sign in cause for sign in _UNTRUSTED):
        return Misfit(f"the target's certificate is not one to trust: {cause}")
    return Disconnected(cause or f"the target ended the stream: {code.name}")
