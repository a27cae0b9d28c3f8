"""An event loop on a virtual clock."""

from __future__ import annotations

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which time, in ms, passes only while all wait for it."""

    now_ms = 0.0

    def time(self) -> float:
        """Return the virtual ms."""
        return self.now_ms

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_ms = max(self.now_ms, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


async def until(at_ms: float) -> None:
    """Wait until a time on the virtual clock."""
    loop = asyncio.get_running_loop()
    reached = loop.create_future()
    loop.call_at(at_ms, reached.set_result, None)
    await reached
