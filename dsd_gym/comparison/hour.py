"""A long run that can be broken off: segments already done are read back, the rest are run, and all are added up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsd_gym.comparison.cells import controller_digest, scenario_digest
from dsd_gym.comparison.compare import Progress
from dsd_gym.comparison.parallel import run_all
from dsd_gym.comparison.segments import Segment, SegmentResult, run_segment
from dsd_gym.config import build, to_dict
from dsd_gym.files import write_atomically
from dsd_gym.metrics import Metrics
from dsd_gym.tally import Totals, figures

HEADLINES = ("normalised_latency_ms", "ttft_ms", "throughput_tokens_s", "acceptance_rate", "target_utilisation")


@dataclass(frozen=True)
class LongRun:
    """All segments together."""

    scenario: str
    controller: str
    segments: int
    measured_s: float
    metrics: Metrics
    """`metrics.summarise`; percentiles to within `distribution.RELATIVE_ERROR`."""
    least_and_most: dict[str, tuple[float, float]]
    """Of the segments, for the headline figures."""
    verify_jobs: int
    verify_jobs_per_cpu_s: float
    decisions: int
    cpu_s: float
    peak_memory_mb: float
    """Of the largest process."""

    def as_json(self) -> str:
        """Return one JSON object; what never happened is null."""
        plain = asdict(self)
        plain["metrics"] = {name: value if value == value else None for name, value in self.metrics.items()}
        return json.dumps(plain, indent=1)

    def table(self) -> str:
        """Return the figures as lines for people."""
        most = {name: f"  [{least:.4g}, {most:.4g}] by segment" for name, (least, most) in self.least_and_most.items()}
        lines = [f"{name:24} {self.metrics[name]:>12.6g}{most[name]}" for name in HEADLINES]
        head = f"{self.scenario}, {self.controller}: {self.measured_s:,.0f} s measured in {self.segments} segments"
        rate = f"{self.verify_jobs_per_cpu_s:,.0f} a CPU second"
        took = f"{self.verify_jobs:,} verify jobs in {self.cpu_s:,.0f} CPU s: {rate}"
        return "\n".join([head, *lines, took, f"peak memory {self.peak_memory_mb:.0f} MB a process"])


def run_long(
    segments: Sequence[Segment],
    folder: Path,
    jobs: int,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> LongRun:
    """Run the segments that `folder` does not hold, keep each as it ends, and return all of them added up."""
    files = [_file(folder, segment) for segment in segments]
    results = {index: result for index, file in enumerate(files) if (result := _read(file)) is not None}
    missing = [index for index in range(len(segments)) if index not in results]
    if progress:
        progress(len(results), len(segments))
    for at, result in run_all(run_segment, [segments[index] for index in missing], jobs, ray_address):
        results[missing[at]] = result
        write_atomically(files[missing[at]], json.dumps(to_dict(result), separators=(",", ":")))
        if progress:
            progress(len(results), len(segments))
    return _together(segments[0], [results[index] for index in range(len(segments))])


def _together(segment: Segment, results: Sequence[SegmentResult]) -> LongRun:
    totals = Totals()
    for result in results:
        totals.merge(result.totals)
    apart = [figures(result.totals.counts, result.totals.latencies) for result in results]
    verify_jobs, cpu_s = sum(r.verify_jobs for r in results), sum(r.cpu_s for r in results)
    return LongRun(
        segment.scenario.name,
        segment.controller,
        len(results),
        totals.counts.interval_ms / 1000.0,
        figures(totals.counts, totals.latencies),
        {name: (min(one[name] for one in apart), max(one[name] for one in apart)) for name in HEADLINES},
        verify_jobs,
        verify_jobs / cpu_s,
        sum(result.decisions for result in results),
        cpu_s,
        max(result.peak_memory_mb for result in results),
    )


def _file(folder: Path, segment: Segment) -> Path:
    """Return where a segment is kept; one of another scenario, controller or simulator is another file."""
    key = scenario_digest(segment.scenario), controller_digest(segment.controller)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return folder / f"segments-{digest}" / f"seed{segment.seed}.json"


def _read(file: Path) -> SegmentResult | None:
    """Return a segment that was run before, None where there is none that can be read."""
    try:
        return build(SegmentResult, json.loads(file.read_text(encoding="utf-8")), source=str(file))
    except (OSError, ValueError):
        return None
