"""Cloud mode against a real engine: one H100, Llama-3.1-8B, constant concurrency.

`python -m dsd_gym.validate_cloud` prints simulated ms a token beside the measured; `--markdown` as a table for docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dsd_gym.config import ConfigError
from dsd_gym.files import Parser, exits_cleanly, whole_number
from dsd_gym.metrics import request_latencies
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Messages, Scenario, TargetClass, Workload
from dsd_gym.simulator import simulate

USERS = (8, 16, 32, 64, 128)
PROMPT_TOKENS = 1024
MEASURED_TPOT_MS = {
    128: (7.94, 9.77, 13.19, 20.05, 31.66),
    256: (7.55, 8.77, 10.92, 15.20, 23.09),
    512: (7.42, 8.35, 9.88, 13.10, 19.26),
}
"""{output tokens: ms a token at each of USERS}: TensorRT-LLM, ai-dynamo/aiconfigurator's published sample."""
TOLERANCE = 0.06
WARM_UP_MS, HORIZON_MS = 12_000.0, 28_000.0


class Cell(NamedTuple):
    """One operating point; ms a token."""

    output_tokens: int
    users: int
    measured_ms: float
    simulated_ms: float

    @property
    def error(self) -> float:
        """Return the relative error of the simulation."""
        return self.simulated_ms / self.measured_ms - 1.0


class CloudOnly:
    """Leave everything to the target."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return window 0."""
        return Decision(0)

    def begin(self, stream: int, device: int, target: int) -> None:
        """Need no introduction."""

    def record(self, round: Round) -> None:
        """Learn nothing."""

    def forget(self, stream: int) -> None:
        """Keep nothing."""


def scenario(users: int, output_tokens: int, max_batch_tokens: int = 2048) -> Scenario:
    """Return the deployment that was measured: no network, no think time, and passes as the hardware row has them."""
    return Scenario(
        name=f"validate_cloud_{users}_{output_tokens}",
        edges=(EdgeClass(count=users),),
        link=LinkSpec(rtt_ms=0.0, jitter_ms=0.0),
        targets=(TargetClass("h100", "Llama-3.1-8B", tensor_parallel=1, max_batch_tokens=max_batch_tokens),),
        workload=Workload(kind="closed", users=users),
        lengths=Lengths(PROMPT_TOKENS, PROMPT_TOKENS, output_tokens, output_tokens),
        messages=Messages(prompt_token_bytes=0.0, header_bytes=0.0, committed_token_bytes=0.0),
        warm_up_ms=WARM_UP_MS,
        horizon_ms=HORIZON_MS,
        drain_ms=0.0,
    )


def simulated_tpot_ms(users: int, output_tokens: int, max_batch_tokens: int = 2048) -> float:
    """Return the mean TPOT of the requests that began after the warm-up and finished while all users were there."""
    records = simulate(scenario(users, output_tokens, max_batch_tokens), CloudOnly())
    finished = [request for request in records.requests if request.finish_ms]
    return float(request_latencies(replace(records, requests=finished)).tpot_ms.mean())


def cells(max_batch_tokens: int = 2048) -> list[Cell]:
    """Return all 15 points."""
    return [
        Cell(output, users, measured_ms, simulated_tpot_ms(users, output, max_batch_tokens))
        for output, row in MEASURED_TPOT_MS.items()
        for users, measured_ms in zip(USERS, row, strict=True)
    ]


def mean_absolute_error(points: list[Cell]) -> float:
    """Return the mean size of the relative errors."""
    return sum(abs(cell.error) for cell in points) / len(points)


def table(points: list[Cell], markdown: bool = False) -> str:
    """Return the points as text or as Markdown, the mean absolute error below."""
    head = ("output tokens", "users", "measured ms", "simulated ms", "error")
    rows = [(str(c[0]), str(c[1]), f"{c.measured_ms:.2f}", f"{c.simulated_ms:.2f}", f"{c.error:+.1%}") for c in points]
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in (head, ("--:",) * len(head), *rows)]
    else:
        lines = ["  ".join(item.rjust(13) for item in row) for row in (head, *rows)]
    summary = f"Mean absolute error {mean_absolute_error(points):.1%} over {len(points)} points (bar: {TOLERANCE:.0%})."
    return "\n".join([*lines, "", summary])


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the 15 points and print the table."""
    parser = Parser(prog="python -m dsd_gym.validate_cloud", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--max-batch-tokens", type=whole_number, default=2048, help="of one iteration (default: 2048)")
    options = parser.parse_args(arguments)
    try:
        points = cells(options.max_batch_tokens)
    except ValueError as error:  # passes so small that nobody is served after the warm-up
        raise ConfigError(f"--max-batch-tokens {options.max_batch_tokens} is too few: {error}") from None
    print(table(points, options.markdown))


if __name__ == "__main__":
    main()
