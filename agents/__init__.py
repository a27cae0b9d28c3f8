"""Who decides: one file a controller. `make_controller("static:4")` turns a spec into one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from agents.average_reward import AverageReward
from agents.awc import Awc
from agents.heuristic import Heuristic
from agents.learned import learned_controller
from agents.leviathan import Leviathan
from agents.sglang import SGLang
from agents.specdec import SpecDec
from agents.static import Static
from agents.table import Table, load_table
from agents.turbospec import TurboSpec
from agents.ucb import Ucb
from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.controller import Controller
from policies import PolicyError, load_policy

__all__ = ["KNOWN_SPECS", "Controller", "make_controller"]

KNOWN_SPECS = {
    "static:K": "a fixed window; 0 is cloud decoding",
    "heuristic": "+2 after a window accepted whole, -1 otherwise",
    "leviathan": "the window of least expected ms a token for the request itself",
    "awc": "Adaptive Window Control with a predictor that prices the delay put on others",
    "awc-mlp": "the same around the paper's supervised network (policies/awc_mlp.safetensors)",
    "average-reward": "one more token while it earns more than its time would in the long run",
    "sglang": "a ladder of windows by batch size, climbed by the mean of accepted drafts (SGLang)",
    "specdec": "draft on until the product of confidences falls under a threshold (SpecDec++)",
    "NAME:published": "sglang, specdec or turbospec with the constants that they ship with, not tuned",
    "table:NAME": "batch size to window: vllm, tensorrt, mlc, tuned, or FILE.yaml",
    "turbospec": "the window of most goodput if the whole batch used it (TurboSpec)",
    "ucb": "a bandit over windows for each device and load",
    "oracle": "privileged, knows what the target will accept: not a rival",
    "FILE.safetensors": "an exported policy",
}


def make_controller(spec: str, max_window: int) -> Controller:
    """Return a fresh controller for windows 0..max_window; an unknown spec raises ConfigError that lists the known."""
    name, _, argument = spec.partition(":")
    if name == "static" and argument:
        return _static(spec, argument, max_window)
    if name == "table" and argument:
        return Table(max_window, load_table(argument))
    if spec in _BY_NAME:
        return _BY_NAME[spec](max_window)
    spec = _SHIPPED.get(spec, spec)
    if spec.endswith(".safetensors") or Path(spec).is_file():
        try:
            return learned_controller(load_policy(spec, max_window))
        except PolicyError as error:
            raise ConfigError(str(error)) from None
    raise ConfigError(f"{spec}: unknown controller{did_you_mean(spec, list(KNOWN_SPECS))}")


def _static(spec: str, argument: str, max_window: int) -> Controller:
    if not argument.isdecimal() or int(argument) > max_window:
        raise ConfigError(f"{spec}: the window must be a whole number from 0 to {max_window}")
    return Static(int(argument))


def _oracle(max_window: int) -> Controller:
    from dsd_gym.oracle import Oracle  # needs the simulator, which no other controller does

    return Oracle(max_window)


_SHIPPED = {"awc-mlp": str(Path(__file__).resolve().parents[1] / "policies" / "awc_mlp.safetensors")}
_BY_NAME: dict[str, Callable[[int], Controller]] = {
    "heuristic": Heuristic,
    "leviathan": Leviathan,
    "awc": Awc,
    "average-reward": AverageReward,
    "sglang": SGLang,
    "specdec": SpecDec,
    "turbospec": TurboSpec,
    "ucb": Ucb,
    "sglang:published": partial(SGLang, first_window=3, up_hysteresis=0.0, batch_scale=1.0),
    "specdec:published": partial(SpecDec, stop_threshold=0.7, cloud_margin=None),
    "turbospec:published": partial(TurboSpec, link_weight=0.0, cloud_margin=0.0),
    "oracle": _oracle,
}
