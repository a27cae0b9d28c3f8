"""What devices cost: the rows of `configs/hardware.yaml`, each with its source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from dsd_gym import latency
from dsd_gym.config import ConfigError, Count, NonNegative, Positive, build, read_yaml

HARDWARE_FILE = Path(__file__).resolve().parents[1] / "configs" / "hardware.yaml"
_SHOWN_FILE = "configs/hardware.yaml"

Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class TargetHardware:
    """A model on a group of devices: what a forward pass takes, and what memory holds."""

    device: Text
    model: Text
    tensor_parallel: Count
    fixed_ms: NonNegative
    token_ms: NonNegative
    weights_ms: Positive
    compute_ms: Positive
    attention_fixed_ms: NonNegative
    attention_sequence_ms: NonNegative
    attention_context_ms: NonNegative
    prefill_fixed_ms: NonNegative
    prefill_token_ms: NonNegative
    prefill_pair_ms: NonNegative
    kv_bytes_per_token: Count
    """Over the whole group of devices."""
    weight_bytes: Count
    """On each device."""
    gpu_memory_gb: Positive
    """Of each device, in 10^9 bytes."""
    kv_capacity_tokens: Count
    """Tokens of context that the whole group holds beside the weights."""
    source: Text

    @property
    def name(self) -> str:
        return f"{self.device}/{self.model}/tp{self.tensor_parallel}"

    @property
    def knee_tokens(self) -> float:
        """Tokens up to which the weights take longer than the arithmetic: one more costs `token_ms`."""
        return self.weights_ms / self.compute_ms

    @property
    def one_token_iteration_ms(self) -> float:
        """Ms of a pass of one token without context."""
        return self.iteration_ms(1, 1, 0)

    def iteration_ms(self, tokens: int, sequences: int, context_tokens: int) -> float:
        """Return the ms of one forward pass; see `latency.iteration_ms`."""
        return latency.iteration_ms(
            tokens,
            sequences,
            context_tokens,
            self.fixed_ms,
            self.token_ms,
            self.weights_ms,
            self.compute_ms,
            self.attention_fixed_ms,
            self.attention_sequence_ms,
            self.attention_context_ms,
        )

    def added_tokens_ms(self, tokens: int, added: int) -> float:
        """Return the extra ms that the last `added` of `tokens` tokens bring; see `latency.added_tokens_ms`."""
        return latency.added_tokens_ms(tokens, added, self.token_ms, self.weights_ms, self.compute_ms)


@dataclass(frozen=True)
class EdgeHardware:
    """A draft model on an edge device: ms for a draft step, and for each token it reads."""

    device: Text
    model: Text
    draft_ms_per_token: Positive
    prefill_ms_per_token: Positive
    source: Text

    @property
    def name(self) -> str:
        return f"{self.device}/{self.model}"


@dataclass(frozen=True)
class Hardware:
    """Both tables, by the names of their rows."""

    targets: dict[str, TargetHardware]
    edges: dict[str, EdgeHardware]

    def __post_init__(self) -> None:
        names = {key: row.name for key, row in self.targets.items()}
        names |= {key: row.name for key, row in self.edges.items()}
        for key, name in names.items():
            if key != name:
                raise ValueError(f"{key}: the name of this row must be {name}")


@cache
def load_hardware() -> Hardware:
    """Return the hardware tables; ConfigError names the row and key that is wrong."""
    return build(Hardware, read_yaml(HARDWARE_FILE), source=_SHOWN_FILE)


def target_hardware(device: str, model: str, tensor_parallel: int) -> TargetHardware:
    """Return the row of a target; ConfigError lists the nearest where there is none."""
    return _row(load_hardware().targets, f"{device}/{model}/tp{tensor_parallel}", "target")


def edge_hardware(name: str) -> EdgeHardware:
    """Return the row of an edge (`l40s/Llama-3.2-1B`); ConfigError lists the nearest where there is none."""
    return _row(load_hardware().edges, name, "edge")


Row = TypeVar("Row", TargetHardware, EdgeHardware)


def _row(rows: dict[str, Row], name: str, kind: str) -> Row:
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name, rows, n=3, cutoff=0)
    raise ConfigError(f"{_SHOWN_FILE}: no {kind} {name}; the nearest are {', '.join(near)}")
