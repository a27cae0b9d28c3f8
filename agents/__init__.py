"""Who decides: one file a controller. `make_controller("static:4")` turns a spec into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.awc import Awc
from agents.heuristic import Heuristic
from agents.learned import Learned
from agents.leviathan import Leviathan
from agents.static import Static
from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.controller import Controller
from policies import PolicyError, load_policy

__all__ = ["KNOWN_SPECS", "Controller", "make_controller"]

KNOWN_SPECS = {
    "static:K": "a fixed window; 0 is cloud decoding",
    "heuristic": "+2 after a window accepted whole, -1 otherwise",
    "leviathan": "the window of least expected ms a token for the request itself",
    "awc": "Adaptive Window Control with a predictor that prices the delay put on others",
    "oracle": "privileged, knows what the target will accept: not a rival",
    "FILE.safetensors": "an exported policy",
}


def make_controller(spec: str, max_window: int) -> Controller:
    """Return a fresh controller for windows 0..max_window; an unknown spec raises ConfigError that lists the known."""
    name, _, argument = spec.partition(":")
    if name == "static" and argument:
        return _static(spec, argument, max_window)
    if spec in _BY_NAME:
        return _BY_NAME[spec](max_window)
    if spec.endswith(".safetensors") or Path(spec).is_file():
        try:
            return Learned(load_policy(spec, max_window))
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


_BY_NAME: dict[str, Callable[[int], Controller]] = {
    "heuristic": Heuristic,
    "leviathan": Leviathan,
    "awc": Awc,
    "oracle": _oracle,
}
