"""A scenario's key figures in words, from its config."""

from __future__ import annotations

from dsd_gym.scenario import EdgeClass, LinkSpec, Scenario, TargetClass, Workload


def key_figures(scenario: Scenario) -> list[tuple[str, str]]:
    """Return (what, how much) of the deployment and its load."""
    slo = scenario.slo
    return [
        ("Edge devices", "; ".join(_edges(edges) for edges in scenario.edges)),
        ("Targets", "; ".join(map(_targets, scenario.targets)) + _routed(scenario)),
        ("Link", _link(scenario.link)),
        ("Load", _load(scenario.workload)),
        *([] if scenario.workload.kind == "trace" else [("Lengths", _mean_lengths(scenario))]),
        ("Acceptance", _acceptance(scenario)),
        ("Windows", f"up to {scenario.max_window} tokens; 0: {_cloud(scenario)}"),
        ("SLOs", f"TTFT {_ms(slo.ttft_ms)}, TPOT {_ms(slo.tpot_ms)}"),
        ("Measured", _measured(scenario)),
    ]


def _ms(value: float) -> str:
    return f"{value:g} ms"


def _seconds(ms: float) -> str:
    return f"{ms / 1000.0:g} s"


def _edges(edges: EdgeClass) -> str:
    draft = "" if edges.draft_ms_per_token is None else f", {_ms(edges.draft_ms_per_token)} a drafted token"
    link = "" if edges.link is None else f" (link: {_link(edges.link)})"
    return f"{edges.count:,} x {edges.hardware}{draft}{link}"


def _targets(target: TargetClass) -> str:
    return f"{target.count:,} x {target.model} on {target.device} x {target.tensor_parallel}"


def _routed(scenario: Scenario) -> str:
    several = sum(target.count for target in scenario.targets) > 1
    return f"; router {scenario.router}" if several else ""


def _link(link: LinkSpec) -> str:
    said = (
        f"round trip {_ms(link.rtt_ms)} + jitter {_ms(link.jitter_ms)}, "
        f"{link.up_mbps:g} Mbit/s up, {link.down_mbps:g} down"
    )
    regimes = (f"{regime.name}{' (outage)' if regime.outage else ''}" for regime in link.regimes)
    return f"{said}; moves between {', '.join(regimes)}" if link.regimes else said


def _load(workload: Workload) -> str:
    rate = f"{workload.rate_per_s:g} requests/s" if workload.rate_per_s else ""
    if workload.load:
        rate = f"{workload.load:g} of what the targets carry by decoding alone"
    return {
        "poisson": f"Poisson, {rate}",
        "bursty": f"bursty (coefficient of variation {workload.burst_cv:g}), {rate}",
        "piecewise": f"in pieces ({_pieces(workload)} the base rate), which is {rate}",
        "diurnal": f"a sine of ±{workload.swing:.0%} every {_seconds(workload.period_ms)} around {rate}",
        "closed": f"{workload.users} users who think {_seconds(workload.think_ms)} between requests",
        "trace": f"arrivals and lengths of {workload.trace}, at {workload.rate_scale:g} times its speed",
    }[workload.kind]


def _pieces(workload: Workload) -> str:
    return ", ".join(f"{_seconds(piece.duration_ms)} at {piece.factor:g} x" for piece in workload.pieces)


def _mean_lengths(scenario: Scenario) -> str:
    lengths = scenario.lengths
    return (
        f"prompts of {lengths.prompt_mean:g} tokens in the mean ({lengths.prompt_median:g} in the median), "
        f"outputs of {lengths.output_mean:g} ({lengths.output_median:g})"
    )


def _acceptance(scenario: Scenario) -> str:
    acceptance = scenario.acceptance
    if acceptance.probability is not None:
        return f"constant, {acceptance.probability:g} at every position"
    return f"as measured for {acceptance.profile}, {acceptance.sampling.replace('_', ' ')}"


def _cloud(scenario: Scenario) -> str:
    cloud = scenario.cloud
    alone = "the target decodes alone"
    helped = f"the target decodes with {cloud.draft_model} beside it, {cloud.draft_window} tokens at a time"
    return alone if cloud.mode == "plain" else helped


def _measured(scenario: Scenario) -> str:
    cap = f"; at most {scenario.max_requests:,} requests" if scenario.max_requests else ""
    return (
        f"requests that arrive from {_seconds(scenario.warm_up_ms)} to {_seconds(scenario.horizon_ms)}, "
        f"followed for {_seconds(scenario.drain_ms)} more{cap}"
    )
