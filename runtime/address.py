"""HOST:PORT, wherever one is asked for."""

from __future__ import annotations

import argparse
import ipaddress

from dsd_gym.config import ConfigError


def host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT, an IPv6 address without its brackets; ConfigError where it is no such thing."""
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{text}: expected HOST:PORT, such as 127.0.0.1:8500")
    return host.strip("[]"), int(port)


def address(text: str) -> str:
    """Return HOST:PORT as it is, as the `type` of an option."""
    try:
        host_and_port(text)
    except ConfigError:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}") from None
    return text


def is_loopback(text: str) -> bool:
    """Return whether HOST:PORT is of this machine alone; ConfigError where it is no such thing."""
    host, _ = host_and_port(text)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
