"""A session at a glance: the window of every round over time, and the round trip that was measured beside it.

python -m runtime.plot LOG [--out session.png]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsd_gym.comparison.plot_style import COLOURS, legend, make_grid, save
from dsd_gym.config import ConfigError
from dsd_gym.files import Parser, exits_cleanly
from dsd_gym.records import Round
from runtime.edge.log import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the rounds of a log that `serve.py --log` has written."""
    parser = Parser("runtime.plot", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("log", type=Path, help="JSON lines, as `serve.py edge --log FILE` writes them")
    parser.add_argument("--out", type=Path, default=Path("session.png"), help="default: session.png")
    options = parser.parse_args(arguments)
    print(draw_session(read_log(options.log).rounds, options.out, options.log))


def draw_session(rounds: Sequence[Round], path: Path, source: Path) -> Path:
    """Draw windows and accepted drafts above, measured round trips below; time in s from the first round on."""
    if not rounds:
        raise ConfigError(f"{source}: no round is logged")
    figure, (windows, trips) = make_grid(2, 1, 9.0, 5.0, sharex=True)
    start_ms = min(round.start_ms for round in rounds)
    _draw_windows(windows, rounds, start_ms)
    times = [(round.end_ms - start_ms) / 1000.0 for round in rounds]
    trips.step(times, [round.rtt_ms for round in rounds], where="post", color=COLOURS[5], label="measured RTT")
    trips.set(ylabel="RTT, ms", xlabel="time, s", ylim=(0.0, None))
    legend(figure, windows, 3)
    return save(figure, path)


def _draw_windows(axes: Axes, rounds: Sequence[Round], start_ms: float) -> None:
    """Draw each round as a bar over its time: the window, and within it what was accepted; cloud chunks in grey."""
    for kind, colour, label in (("cloud", "#B0B0B0", "cloud decoding"), ("edge", COLOURS[2], "window")):
        chosen = [round for round in rounds if (round.window == 0) == (kind == "cloud")]
        heights = [round.window or 0.4 for round in chosen]
        _bars(axes, chosen, heights, start_ms, colour, label)
    edge = [round for round in rounds if round.window]
    _bars(axes, edge, [round.accepted for round in edge], start_ms, COLOURS[4], "accepted")
    axes.set(ylabel="tokens", ylim=(0.0, None))


def _bars(
    axes: Axes, rounds: Sequence[Round], heights: Sequence[float], start_ms: float, colour: str, label: str
) -> None:
    if not rounds:
        return  # matplotlib would give the legend a colour of its own
    starts = [(round.start_ms - start_ms) / 1000.0 for round in rounds]
    widths = [round.elapsed_ms / 1000.0 for round in rounds]
    axes.bar(starts, heights, widths, align="edge", color=colour, edgecolor="white", linewidth=0.3, label=label)


if __name__ == "__main__":
    main()
