"""What a target's server may be told: where it listens, who may use it, and how much of it one client may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerOptions:
    """Settings of a server; limits on requests themselves are the engine's."""

    listen: str = "127.0.0.1:8500"
    """HOST:PORT; port 0 takes a free one. `[::1]:8500` for IPv6."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Clients must show a certificate that it signed."""
    tokens: Path | None = None
    """File of bearer tokens, one a line: `name:token` or `token`."""
    insecure: bool = False
    """Listen beyond this machine without encryption or without knowing who asks."""
    metrics_port: int | None = None
    """Port of the Prometheus page; none without it."""
    metrics_host: str = "127.0.0.1"
    idle_timeout_s: float = 60.0
    """A session ends after this time without a message while the target waits for its edge. While the target decodes
    on its own, any message of the edge's within this time keeps the session: pings do."""
    max_streams: int = 1024
    max_sessions_per_client: int = 64
    """A client is a token's name, or a peer's address where there are no tokens."""
    max_unsent_messages: int = 256
    """A session ends when its edge leaves more than these unread."""
    keepalive_s: float = 10.0
    """A peer that does not answer the transport's pings within twice this time is gone."""
    grace_s: float = 30.0
    """How long running sessions may go on after the first SIGTERM."""
