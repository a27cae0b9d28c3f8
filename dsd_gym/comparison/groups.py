"""Cells that are run together: side by side in the compiled twin where it knows the deployment, else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec

from dsd_gym.comparison.cells import Cell, row_of, run
from dsd_gym.comparison.evaluation import Row
from dsd_gym.controller import DecidesMany
from dsd_gym.records import Records
from dsd_gym.simulator import Privileged
from dsd_gym.vector.support import unsupported

Group = tuple[Cell, ...]
"""One cell of any kind, or cells of one controller and one longest window that the twin runs side by side."""

TOGETHER = 160
"""Cells of a rule that decides for many at once: the more, the less each step costs them."""
EACH_ALONE = 16
"""Cells whose controllers are asked one after another: most of the time is theirs, however many there are."""
PIECES = 4
"""Groups for each process at least, so that none waits long for the others, of cells that are run together."""


def grouped(cells: Sequence[Cell], jobs: int) -> list[Group]:
    """Return the cells in groups for `jobs` processes, those that take longest first."""
    alone: list[Group] = []
    by_controller: dict[tuple[str, int], list[Cell]] = {}
    compiled = _Compiled()
    for cell in cells:
        if compiled.knows(cell):
            by_controller.setdefault((cell.controller, cell.scenario.max_window), []).append(cell)
        else:
            alone.append((cell,))
    fair = max(1, -(-len(cells) // (PIECES * jobs)))
    groups = [group for alike in by_controller.values() for group in _split(alike, fair)]
    return alone + sorted(groups, key=lambda group: _decides_many(group[0]))


def _split(cells: Sequence[Cell], fair: int) -> Iterator[Group]:
    """Yield like groups: each has cells of all scenarios, so that they take about as long."""
    size = min(TOGETHER if _decides_many(cells[0]) else EACH_ALONE, fair)
    count = -(-len(cells) // size)
    for index in range(count):
        yield tuple(cells[index::count])


class _Compiled:
    """Knows which cells the twin can run."""

    def __init__(self) -> None:
        self._installed = find_spec("numba") is not None
        self._scenarios: dict[int, bool] = {}  # by identity: a study's points share a name
        self._controllers: dict[tuple[str, int], bool] = {}

    def knows(self, cell: Cell) -> bool:
        """Return whether numba is there, the twin has all mechanisms, and the controller needs no simulator."""
        if not self._installed:
            return False
        scenario, asked = cell.scenario, (cell.controller, cell.scenario.max_window)
        if id(scenario) not in self._scenarios:
            self._scenarios[id(scenario)] = unsupported(scenario) is None
        if asked not in self._controllers:
            self._controllers[asked] = not isinstance(cell.make_controller(*asked), Privileged)
        return self._scenarios[id(scenario)] and self._controllers[asked]


def _decides_many(cell: Cell) -> bool:
    return isinstance(cell.make_controller(cell.controller, cell.scenario.max_window), DecidesMany)


def run_group(group: Group) -> list[Row]:
    """Return the rows of a group's cells, in order.

    Raises:
        ConfigError: no request of a cell was scored.
    """
    if not _Compiled().knows(group[0]):
        return [run(cell) for cell in group]
    rows = {place: row_of(group[place], records) for place, records in _simulated(group)}
    return [rows[place] for place in range(len(group))]


def _simulated(group: Group) -> Iterator[tuple[int, Records]]:
    """Yield the place of a cell and its records, as they end."""
    from dsd_gym.vector.running import simulate_all  # numba

    first, runs = group[0], [(cell.scenario, cell.seed) for cell in group]
    return simulate_all(runs, partial(first.make_controller, first.controller, first.scenario.max_window))
