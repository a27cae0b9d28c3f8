"""Print what a policy file says of itself: `python -m policies.inspect FILE [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from dsd_gym.window_tree import as_lines
from policies.errors import PolicyError, printable
from policies.format import load_policy
from policies.kinds import KINDS
from policies.policy import Policy


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the header of the file on the command line; return the exit code, 2 if it cannot be used."""
    description = "Print what a policy file says of itself."
    parser = argparse.ArgumentParser(prog="python -m policies.inspect", description=description)
    parser.add_argument("file", type=Path, help="a policy (.safetensors)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args(arguments)
    try:
        policy = load_policy(options.file)
    except PolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = options.file.stat().st_size
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    text = json.dumps(as_dict(policy, size), indent=2) if options.json else as_text(policy, str(options.file), size)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def as_dict(policy: Policy, file_bytes: int) -> dict[str, Any]:
    """Return the header, the network's widths, its parameters' number or the tree, the file's size, ready for JSON."""
    extra = {"widths": list(policy.widths), "parameters": policy.parameters, "file_bytes": file_bytes}
    tree = {} if policy.tree is None else {"tree": policy.tree._asdict()}
    return {**asdict(policy.header), **extra, **tree}


def as_text(policy: Policy, name: str, file_bytes: int) -> str:
    """Return the same for a reader: a summary, features, scenario ranges, evaluation, training config."""
    header = policy.header
    summary = {
        "file": f"{name} ({file_bytes:,} bytes)",
        "made with": f"dsd-gym {header.package_version}, format {header.format_version}",
        "command": header.command,
        "config hash": header.config_hash,
        "seed": header.seed,
        "kind": f"{header.kind}: {KINDS[header.kind].meaning}",
        "max window": header.max_window,
        **_shape(policy),
    }
    ranges = header.feature_ranges.items()
    known = KINDS[header.kind].features.items()
    units = {name: feature.unit if feature.unit != "1" else "" for name, feature in known}
    features = {name: f"{low:g} .. {high:g} {units[name]}" for name, (low, high) in ranges}
    sections: dict[str, Mapping[str, Any]] = {
        "": summary,
        "features, and the range seen in training": features,
        "scenario ranges": header.scenario_ranges,
        "evaluation": header.evaluation,
        "training config": header.training_config,
    }
    parts = ["\n".join(_section(title, values)) for title, values in sections.items()]
    if policy.tree is not None:
        parts.append("\n".join(["tree", *(f"  {line}" for line in as_lines(policy.tree))]))
    return "\n\n".join(parts)


def _shape(policy: Policy) -> dict[str, str]:
    """Return the rows about layers, or about the tree."""
    if policy.tree is not None:
        tree = policy.tree
        return {"tree": f"{tree.leaves} leaves, depth {tree.depth}"}
    shape = {"network": f"{policy.header.activation}, {policy.parameters:,} parameters"}
    for index, (weight, bias) in enumerate(policy.layers):
        outputs, inputs = weight.shape
        shape[f"  layer{index}"] = f"{inputs} -> {outputs}, {weight.size + bias.size:,} parameters"
    return shape


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if title:
        yield title
    rows = list(_flatten(values)) or [("(none)", "")]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        yield printable(f"{'  ' if title else ''}{key:<{width}}  {value}".rstrip())


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value) for every leaf."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    raise SystemExit(main())
