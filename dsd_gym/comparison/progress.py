"""The bar that shows how far a long job is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from dsd_gym.comparison.compare import Progress

LINE_EVERY_S = 60.0


@contextmanager
def progress_bar(lines: bool = False) -> Iterator[Progress | None]:
    """Show the pieces done on stderr where it is a terminal; elsewhere nothing or, with `lines`, a line a minute."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield _line_a_minute() if lines else None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("simulating"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cells", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line_a_minute() -> Progress:
    start_s = told_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= LINE_EVERY_S:
            told_s = now_s
            print(f"{done} of {total} done after {(now_s - start_s) / 60:.0f} min", file=sys.stderr, flush=True)

    return tell
