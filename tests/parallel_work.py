"""Work for other processes: they import it by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """A number to square. Its worker is killed, the first `kills` times, before it is done."""

    number: int
    folder: Path
    kills: int = 0


def square(task: Task) -> int:
    """Return the square, and leave a line for each attempt."""
    attempts = task.folder / f"{task.number}.log"
    with attempts.open("a", encoding="utf-8") as log:
        log.write(f"{os.getpid()}\n")
    if len(attempts.read_text().splitlines()) <= task.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number**2


def sleeps(number: int) -> int:
    """Take a minute."""
    time.sleep(60.0)
    return number


def fails(number: int) -> int:
    """Raise on 3."""
    if number == 3:
        raise ValueError("three is wrong")
    return number
