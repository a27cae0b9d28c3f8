"""Messages on their way: SimPy events whose delay is known when they are sent, not when they are awaited."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

NORMAL = 1
LAST = 2
"""Iterations end and begin after all that happens at the same ms, so a window that arrives then still gets in.

The run's end and the router's reports come first of what is last, then the targets in turn: `LAST + 1` is the first's.
"""


class Message(simpy.Event):
    """An event that happens `delay_ms` after it is sent: a SimPy timeout whose start is decided later."""

    def send(self, value: Any, delay_ms: float, priority: int = NORMAL) -> None:
        """Set the message off."""
        self._ok = True
        self._value = value
        self.env.schedule(self, priority, delay_ms)  # type: ignore[arg-type]


def call_later(env: simpy.Environment, delay_ms: float, action: Callable[[], None], priority: int = NORMAL) -> None:
    """Call `action` after `delay_ms`."""
    message = Message(env)
    message.callbacks.append(lambda _: action())
    message.send(None, delay_ms, priority)


class Inbox:
    """The edge's end of a stream: messages in the order they were sent, however late their reader is."""

    __slots__ = ("_awaited", "_env", "_sent")

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._sent: deque[Message] = deque()
        self._awaited: Message | None = None

    def send(self, value: Any, delay_ms: float) -> None:
        """Send `value` so that it arrives in `delay_ms`."""
        message, self._awaited = self._awaited, None
        if message is None:
            message = Message(self._env)
            self._sent.append(message)
        message.send(value, delay_ms)

    def receive(self) -> Message:
        """Return the next message, to be awaited."""
        if self._sent:
            return self._sent.popleft()
        self._awaited = Message(self._env)
        return self._awaited
