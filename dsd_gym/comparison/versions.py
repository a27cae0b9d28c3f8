"""What a comparison was run with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("numpy", "simpy", "gymnasium")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that figures may depend on; nothing of the machine."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
