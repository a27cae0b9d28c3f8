"""Sums over the measured interval, from which all figures of a run but its latencies follow."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from dsd_gym.records import TargetRecord
from dsd_gym.rounds import RoundArray

Metrics: TypeAlias = dict[str, float]


@dataclass
class Counts:
    """What a run's measured interval held. Those of several runs add up."""

    interval_ms: float = 0.0
    target_ms: float = 0.0
    """The interval, once for each target."""
    busy_ms: float = 0.0
    iterations: int = 0
    rounds: int = 0
    verified: int = 0
    """Rounds whose window the target verified."""
    drafted: int = 0
    accepted: int = 0
    won: int = 0
    """Accepted and extra tokens of verified windows."""
    committed: int = 0
    cloud_tokens: int = 0
    uplink_bytes: float = 0.0
    downlink_bytes: float = 0.0
    first_tokens: int = 0
    within_slos: int = 0
    scored_by_class: Counter[str] = field(default_factory=Counter)
    within_by_class: Counter[str] = field(default_factory=Counter)
    """Only where there are request classes."""
    scored: int = 0
    finished: int = 0
    rejected: int = 0
    degraded: int = 0

    def merge(self, other: Counts) -> None:
        """Add another's sums."""
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if isinstance(mine, Counter):
                mine.update(theirs)  # a sum of counters would forget those that stand at 0
            else:
                setattr(self, entry.name, mine + theirs)

    def add_rounds(self, rounds: RoundArray) -> None:
        """Take in the work of rounds that ended in the interval."""
        verified = rounds[rounds["drafted"] > 0]
        self.rounds += len(rounds)
        self.committed += int(rounds["committed"].sum())
        self.cloud_tokens += int(rounds["cloud_tokens"].sum())
        self.uplink_bytes += float(rounds["uplink_bytes"].sum())
        self.downlink_bytes += float(rounds["downlink_bytes"].sum())
        self.verified += len(verified)
        self.drafted += int(verified["drafted"].sum())
        self.accepted += int(verified["accepted"].sum())
        self.won += int(verified["committed"].sum() - verified["cloud_tokens"].sum())

    def add_target(self, target: TargetRecord, interval_ms: float) -> None:
        """Take in one target's work."""
        self.target_ms += interval_ms
        self.busy_ms += target.busy_ms
        self.iterations += target.iterations

    def production(self) -> Metrics:
        """Return what was produced, a second, and how busy the targets were with it."""
        interval_s = self.interval_ms / 1000.0
        return {
            "throughput_tokens_s": _ratio(self.first_tokens + self.committed, interval_s),
            "goodput_requests_s": _ratio(self.within_slos, interval_s),
            "target_utilisation": _ratio(self.busy_ms, self.target_ms),
        }

    def speculation(self) -> Metrics:
        """Return how well drafts were guessed, and how long windows were."""
        return {
            "acceptance_rate": _ratio(self.accepted, self.drafted),
            "mean_acceptance_length": _ratio(self.won, self.verified),
            "mean_window": _ratio(self.drafted, self.verified),
            "tokens_per_round": _ratio(self.committed, self.rounds),
            "cloud_share": _ratio(self.cloud_tokens, self.committed),
            "uplink_bytes": float(self.uplink_bytes),
            "downlink_bytes": float(self.downlink_bytes),
            "rounds": self.rounds,
        }

    def requests(self) -> Metrics:
        """Return how many requests were scored, and how they ended."""
        return {
            "scored_requests": self.scored,
            "finished": self.finished,
            "unfinished": self.scored - self.finished - self.rejected,
            "rejected": self.rejected,
            "degraded": self.degraded,
        }

    def promises(self) -> Metrics:
        """Return how many requests met their limits, and the same for each request class."""
        kept: Metrics = {"slo_attainment": _ratio(self.within_slos, self.scored)}
        for name, scored in sorted(self.scored_by_class.items()):
            within = self.within_by_class[name]
            kept[f"slo_attainment.{name}"] = _ratio(within, scored)
            kept[f"goodput_requests_s.{name}"] = _ratio(within, self.interval_ms / 1000.0)
        return kept


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
