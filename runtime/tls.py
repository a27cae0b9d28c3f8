"""TLS for both ends of the wire, from PEM files: what is wrong with one is a line that names it."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from dsd_gym.config import ConfigError


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """Return a server's credentials; with `client_ca`, clients must show a certificate that it signed."""
    _check_chain(certificate, key)
    roots = _read_roots(client_ca) if client_ca else None
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], root_certificates=roots, require_client_auth=roots is not None
    )


def channel_credentials(ca: Path, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """Return a client's credentials: it trusts what `ca` signed, and shows its own certificate if it has one."""
    if certificate is None or key is None:
        if certificate or key:
            raise ConfigError("a client certificate and its key go together: give both or neither")
        return grpc.ssl_channel_credentials(_read_roots(ca))
    _check_chain(certificate, key)
    return grpc.ssl_channel_credentials(_read_roots(ca), key.read_bytes(), certificate.read_bytes())


def read_text(path: Path, what: str) -> str:
    """Return a file's text; ConfigError that names it where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the {what} cannot be read: {_reason(error)}") from None


def _check_chain(certificate: Path, key: Path) -> None:
    """Raise ConfigError unless both files are there and belong together; gRPC itself would only fail in the log."""
    read_text(certificate, "certificate")
    read_text(key, "key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{certificate}: not a certificate that goes with {key}: {_reason(error)}") from None


def _read_roots(path: Path) -> bytes:
    text = read_text(path, "CA certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a CA certificate in PEM form: {_reason(error)}") from None
    return text.encode()


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error)
