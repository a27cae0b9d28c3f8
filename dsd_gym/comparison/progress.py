"""The bar that shows how far a comparison is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from dsd_gym.comparison.compare import Progress


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Show the cells done on stderr where it is a terminal."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("simulating"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cells", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
