"""Who may use a target: which listen addresses need TLS, and bearer tokens."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import grpc

from dsd_gym.config import ConfigError
from runtime.address import is_loopback
from runtime.target.options import ServerOptions
from runtime.tls import read_text, server_credentials
from runtime.wire.metadata import TOKEN_KEY, TOKEN_SCHEME


class Tokens:
    """Bearer tokens and the names of those who hold them."""

    def __init__(self, tokens: dict[str, str]) -> None:
        self._tokens = {name: token.encode() for name, token in tokens.items()}

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read `name:token` or `token` lines; empty lines and those that begin with # do not count."""
        tokens: dict[str, str] = {}
        for number, line in enumerate(read_text(path, "token file").splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, colon, token = line.strip().partition(":")
            if not colon:
                name, token = f"line {number}", name
            name, token = name.strip(), token.strip()
            if not name or not token or not token.isascii() or name in tokens or token in tokens.values():
                raise ConfigError(f"{path}, line {number}: expected name:token, each name and token once")
            tokens[name] = token
        if not tokens:
            raise ConfigError(f"{path}: holds no token; expected lines of name:token")
        return cls(tokens)

    def holder(self, metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
        """Return who sent `authorization: Bearer TOKEN`; None if nobody known did. Takes as long for any token."""
        found = None
        for key, value in metadata:
            if key == TOKEN_KEY and isinstance(value, str) and value.startswith(TOKEN_SCHEME):
                sent = value.removeprefix(TOKEN_SCHEME).encode()
                for name, token in self._tokens.items():
                    if hmac.compare_digest(token, sent):
                        found = name
        return found


def credentials(options: ServerOptions) -> grpc.ServerCredentials | None:
    """Return the TLS credentials, None for plaintext; ConfigError unless that may serve on the listen address."""
    certificate, key, client_ca = options.tls_certificate, options.tls_key, options.tls_client_ca
    if (certificate is None) != (key is None):
        raise ConfigError("a TLS certificate and its key go together: give both or neither")
    if client_ca and not certificate:
        raise ConfigError("a client CA needs TLS: give a certificate and its key as well")
    knows_clients = options.tokens is not None or client_ca is not None
    if not (options.insecure or is_loopback(options.listen) or (certificate and knows_clients)):
        raise ConfigError(
            f"{options.listen}: listening beyond this machine needs TLS, and tokens or a client CA; "
            "listen on 127.0.0.1, or say that it may be insecure"
        )
    return server_credentials(certificate, key, client_ca) if certificate and key else None


def host_of(peer: str) -> str:
    """Return the address of gRPC's name for a peer, such as `ipv4:127.0.0.1:51234`, without its port."""
    return unquote(peer).partition(":")[2].rpartition(":")[0] or peer
