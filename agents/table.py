"""A table from batch size to window: what vLLM, TensorRT-LLM and MLC-LLM offer, as settings of one rule."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agents.base import Controller
from dsd_gym.config import ConfigError, Count, build, did_you_mean, read_yaml
from dsd_gym.observation import FEATURE_NAMES, Observation
from dsd_gym.records import Decision

TABLE_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "tables"

_BATCH_SIZE = FEATURE_NAMES.index("batch_size")

Row = tuple[Count, Count, Annotated[int, Field(ge=0)]]


@dataclass(frozen=True)
class BatchTable:
    """The content of a table's YAML file. The first key is vLLM's, in vLLM's form, to be pasted either way."""

    num_speculative_tokens_per_batch_size: Annotated[tuple[Row, ...], Field(min_length=1)]
    """[first batch size, last batch size, window], both inclusive; gaps and what follows the last row carry on."""
    command: str = ""
    """What made the table."""

    def __post_init__(self) -> None:
        last = 0
        for row in self.num_speculative_tokens_per_batch_size:
            first, end, _ = row
            if last == 0 and first != 1:
                raise ValueError(f"the first row must start at batch size 1, but is {list(row)}")
            if first > end:
                raise ValueError(f"row {list(row)} runs backwards")
            if first <= last:
                raise ValueError(f"row {list(row)} must start after {last}, where the row before it ends")
            last = end


TABLES = {
    "vllm": BatchTable(((1, 64, 3), (65, 128, 1), (129, 512, 0))),
    "tensorrt": BatchTable(((1, 4, 4), (5, 8, 2), (9, 32, 1), (33, 33, 0))),
    "mlc": BatchTable(((1, 9, 4), (10, 19, 3), (20, 29, 2), (30, 30, 0))),
}
"""vllm: the example of vLLM 0.33's documentation. tensorrt: TensorRT-LLM's `draft_len_schedule` {4: 4, 8: 2, 32: 1},
whose keys are upper bounds, 0 beyond. mlc: MLC-LLM's thresholds on running requests (<10: 4, <20: 3, <30: 2, else 0).
"""


def load_table(name: str) -> BatchTable:
    """Return the table of a name (those of `TABLES`, and configs/tables/NAME.yaml) or of a YAML file.

    Raises:
        ConfigError: there is none, or the file's content is wrong; the line names file and key.
    """
    if name in TABLES:
        return TABLES[name]
    shipped = TABLE_FOLDER / f"{name}.yaml"
    if not shipped.is_file() and not name.endswith((".yaml", ".yml")):
        known = [*TABLES, *sorted(path.stem for path in TABLE_FOLDER.glob("*.yaml")), "FILE.yaml"]
        raise ConfigError(f"table:{name}: no such table{did_you_mean(name, known)}")
    path = shipped if shipped.is_file() else Path(name)
    return build(BatchTable, read_yaml(path), source=str(path))


class Table(Controller):
    """Look the window up by the batch size that the target last reported; 0 is cloud decoding.

    vLLM's `num_speculative_tokens_per_batch_size`: windows are clamped to the longest allowed. It sees neither link
    nor acceptance. `python -m agents.tune_table` fills a table from simulations.
    """

    def __init__(self, max_window: int, table: BatchTable) -> None:
        rows = table.num_speculative_tokens_per_batch_size
        self._first_batches = [first for first, _, _ in rows]
        self._decisions = [Decision(min(window, max_window)) for _, _, window in rows]

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window of the last row that starts at or below the reported batch size."""
        return self._decisions[max(bisect_right(self._first_batches, observation.batch_size) - 1, 0)]

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        """Return the windows for rows of features in their own units."""
        rows = np.searchsorted(self._first_batches, seen[:, _BATCH_SIZE], side="right") - 1
        windows = np.array([decision.window for decision in self._decisions])
        return windows[np.maximum(rows, 0)], None
