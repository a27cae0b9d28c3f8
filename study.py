"""Answer a question with a sweep: a study's YAML in; its page, with figures and tables, out.

python study.py break_even                  configs/studies/break_even.yaml -> docs/studies/break_even.md
python study.py all --smoke                 about a hundredth of every study -> runs/studies/smoke
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agents import make_controller
from dsd_gym.comparison.parallel import cpu_count
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.files import Parser, check_writable, exits_cleanly, whole_number, write_atomically
from dsd_gym.studies.figures import draw_best_windows, draw_lines, draw_reads
from dsd_gym.studies.page import page, read_label
from dsd_gym.studies.readings import best_windows, capacities, crossovers
from dsd_gym.studies.study import STUDY_FOLDER, Study, load_study, smoke
from dsd_gym.studies.sweep import Results, sweep

KEPT = Path("runs/studies")
DOCS = Path(__file__).resolve().parent / "docs" / "studies"
SMOKE = KEPT / "smoke"


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the studies that are named, or go on with them, and write their pages."""
    options = _parser().parse_args(arguments)
    names = sorted(file.stem for file in STUDY_FOLDER.glob("*.yaml")) if options.studies == ["all"] else options.studies
    out = options.out or (SMOKE if options.smoke else DOCS)
    studies = [load_study(name) for name in names]
    check_writable(out)
    for study in studies:
        command = f"python study.py {study.name}"
        if options.smoke:
            study, command = smoke(study), f"{command} --smoke"
        with progress_bar() as progress:
            kept = KEPT / f"{study.name}{'-smoke' if options.smoke else ''}.jsonl"
            results = sweep(study, make_controller, kept, options.jobs, progress)
        print(f"{write(study, results, command, out)}: {study.title}", flush=True)


def write(study: Study, results: Results, command: str, out: Path) -> Path:
    """Write the page and its figures; return the page's path."""
    kind = study.reading.kind if study.reading else ""
    read = {"crossover": crossovers, "capacity": capacities}.get(kind)
    reads = read(study, results) if read else []
    best = best_windows(study, results) if kind == "best_window" else []
    pictures = [draw_lines(study, results, out / f"{study.name}.png")]
    if reads:
        pictures.insert(0, draw_reads(study, reads, read_label(study), out / f"{study.name}_{kind}.png"))
    if best:
        pictures.insert(0, draw_best_windows(study, best, out / f"{study.name}_best.png"))
    path = out / f"{study.name}.md"
    write_atomically(path, page(study, results, command, [picture.name for picture in pictures], reads, best))
    return path


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser("study.py", description=__doc__, formatter_class=plain)
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="names under configs/studies, files, or all")
    out = f"folder for pages and figures (default: docs/studies, or {SMOKE} with --smoke)"
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument("--jobs", type=whole_number, default=cpu_count(), help="processes (default: one a processor)")
    parser.add_argument("--smoke", action="store_true", help="the ends of each axis, short runs, one seed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
