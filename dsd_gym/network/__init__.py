"""Links between devices and the cloud; no simulator needed (the runtime's link emulator uses them too)."""

from dsd_gym.network.link import Link
from dsd_gym.network.making import make_link, make_links

__all__ = ["Link", "make_link", "make_links"]
