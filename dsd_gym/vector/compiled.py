"""The simulator's own formulas, compiled: the functions that the twin shares with it, not copies of them.

What numba compiles is kept on disk between runs. It does not notice that a function called by another has changed, so
the folder bears a digest of all sources that go into the twin.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

from dsd_gym import acceptance, latency, laws, luck, observation, stream_view
from dsd_gym.network import regimes

_PACKAGE = Path(__file__).resolve().parents[1]
_SHARED = (
    "acceptance.py", "latency.py", "laws.py", "luck.py", "observation.py", "stream_view.py", "network/regimes.py",
)  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])


def _digest() -> str:
    files = [_PACKAGE / name for name in _SHARED] + sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _cache_folder() -> str:
    """Return a folder for what is compiled: where NUMBA_CACHE_DIR says, beside the sources, or in /tmp or its like."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return str(Path(chosen) / f"numba-{_digest()}")
    own = Path(__file__).parent / "__pycache__"
    writable = os.access(own if own.is_dir() else own.parent, os.W_OK)
    parent = own if writable else Path(tempfile.gettempdir()) / f"dsd_gym-{os.getuid()}"
    return str(parent / f"numba-{_digest()}")


CACHE_FOLDER = _cache_folder()


def compiled(function: Function, signature: str | None = None) -> Function:
    """Return the function compiled by numba when it is first called, or loaded from an earlier run.

    It makes no arrays: counting references to those it is given would take most of its time.
    """
    return kept(function, signature, _nrt=False, forceinline=True)


def part(function: Function) -> Function:
    """Return the same for a part of another compiled function, which Python cannot call: half of the compiling."""
    return kept(function, _nrt=False, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def merged(function: Function) -> Function:
    """Return the same for a long part that one function asks for: it becomes that one's text, and is compiled once."""
    return kept(function, inline="always", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def compiled_arrays(function: Function) -> Function:
    """Return the same for a function that makes arrays."""
    return kept(function)


def kept(function: Function, signature: str | None = None, folder: str = CACHE_FOLDER, **options: Any) -> Function:
    """Return the function compiled by numba with these options, kept in `folder`."""
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, folder
    try:
        compiler: Any = numba.njit
        made: Function = compiler(*filter(None, [signature]), cache=True, error_model="numpy", **options)(function)
    finally:
        settings.CACHE_DIR = before
    return made


uniform: Callable[..., float] = compiled(luck.uniform, luck.COMPILED_SIGNATURE)
stir: Callable[..., Any] = compiled(luck.stir, "uint64(uint64, uint64)")
unit: Callable[..., float] = compiled(luck.unit, "float64(uint64)")
exponential = compiled(luck.exponential)
iteration_ms = compiled(latency.iteration_ms)
added_tokens_ms = compiled(latency.added_tokens_ms)
prefill_attention_ms = compiled(latency.prefill_attention_ms)
transmission_ms = compiled(latency.transmission_ms)
one_way_ms = compiled(latency.one_way_ms)
externality_ms = compiled(latency.externality_ms)
smoothed_rtt = compiled(stream_view.smoothed_rtt)
tests_so_far = compiled(stream_view.tests_so_far)
acceptance_estimate = compiled(stream_view.acceptance_estimate)
stopped_window: Callable[..., int] = compiled(acceptance.stopped_window)
mean_confidence: Callable[..., float] = compiled(acceptance.mean_confidence)
probability_of = compiled(acceptance.probability_of)
next_difficulty = compiled(acceptance.next_difficulty)
first_state: Callable[..., int] = compiled(regimes.first_state)
next_state = compiled(regimes.next_state)
bounded = kept(observation.bounded, _nrt=False, forceinline=True, fastmath={"nnan"})
"""No feature is NaN; minima and maxima that allow for it take twice the time."""
normal = compiled(luck.normal)
binary_exponent = compiled(luck.binary_exponent)
mantissa_bits = compiled(luck.mantissa_bits)
box_muller = compiled(luck.box_muller)
renewal_gap = compiled(laws.renewal_gap)
factor_at = compiled(laws.factor_at)
log_normal = compiled(laws.log_normal)
clipped = compiled(laws.clipped)
owned_device = compiled(laws.owned_device)
INFINITY = math.inf
at: Any = np.uint32
"""Of a place in an array: it does not count from the end, and numba leaves out the instructions that allow for that."""
