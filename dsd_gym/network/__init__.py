"""Links between devices and the cloud; no simulator needed (the runtime's link emulator uses them too)."""

from dsd_gym.network.link import Link

__all__ = ["Link"]
