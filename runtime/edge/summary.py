"""How a run went, in a few lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsd_gym.metrics import Metrics, summarise
from dsd_gym.records import Records, RequestRecord, Round, Status
from runtime.edge.log import run_records

if TYPE_CHECKING:
    from runtime.edge.edge import Edge
    from runtime.edge.request import Progress


class Summary:
    """Listen to one request from its beginning, and sum it up."""

    def __init__(self) -> None:
        self._arrival_ms = time.monotonic() * 1000.0
        self._first_token_ms: float | None = None
        self._rounds: list[Round] = []
        self._tokens = 0

    @property
    def begun(self) -> bool:
        """Return whether there was anything yet."""
        return self._first_token_ms is not None

    def add(self, progress: Progress) -> None:
        """Take in what was committed."""
        if self._first_token_ms is None:
            self._first_token_ms = time.monotonic() * 1000.0
        self._tokens += len(progress.tokens)
        if progress.round:
            self._rounds.append(progress.round)

    def text(self, edge: Edge) -> str:
        """Return the summary, with the counters of `edge`."""
        if self._first_token_ms is None:
            return "nothing was generated"
        return summary_text(self._records(), edge.fallbacks, edge.reconnects)

    def _records(self) -> Records:
        first_ms = self._first_token_ms
        finish_ms = self._rounds[-1].end_ms if self._rounds else first_ms
        tokens = self._tokens
        request = RequestRecord(0, 0, 0, 0, self._arrival_ms, 1, tokens, tokens, first_ms, finish_ms, Status.FINISHED)
        return run_records("", [request], self._rounds)


def summary_text(records: Records, fallbacks: int, reconnects: int) -> str:
    """Return the figures of a run as text; those of something that never happened are left out."""
    figures = summarise(records)
    tokens = sum(request.committed_tokens for request in records.requests)
    a_round = _number(figures, "tokens_per_round", ", {:.2f} a round")
    a_second = _number(figures, "throughput_tokens_s", ", {:.1f} tokens/s")
    rows = {
        "tokens": f"{tokens} in {figures['rounds']:.0f} rounds{a_round}{a_second}",
        "TTFT": _number(figures, "ttft_ms", "{:.1f} ms"),
        "TPOT": _number(figures, "tpot_ms", "{:.2f} ms"),
        "windows": window_histogram(records.rounds),
        "acceptance": _number(figures, "acceptance_rate", "{:.1%} of drafted tokens"),
        "cloud share": _number(figures, "cloud_share", "{:.1%} of tokens"),
        "fallbacks": f"{fallbacks} decisions",
        "reconnects": f"{reconnects}",
    }
    return "\n".join(f"{name:<12}{value}" for name, value in rows.items() if value)


def window_histogram(rounds: Sequence[Round]) -> str:
    """Return how often each window was decided: `0 x12, 4 x30`."""
    counts = Counter(round.window for round in rounds)
    return ", ".join(f"{window} x{counts[window]}" for window in sorted(counts))


def _number(figures: Metrics, name: str, form: str) -> str:
    value = figures[name]
    return form.format(value) if value == value else ""
