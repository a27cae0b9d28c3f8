"""A controller's rule, compiled with the functions that it calls and applied to rows of observations.

The rule is a plain function of an `Observation` and constants. What it calls by name must be plain functions too.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba.np.unsafe.ndarray import to_fixed_tuple

from dsd_gym.observation import FEATURE_NAMES, Observation
from dsd_gym.vector.compiled import CACHE_FOLDER, kept

_FEATURES = len(FEATURE_NAMES)
Function = Callable[..., Any]


@cache
def over_rows(rule: Function) -> Function:
    """Return a compiled f(seen, windows, *constants) that writes rule(row, *constants) for each row of `seen`.

    `seen` is float64 of shape (n, features), in the features' own units; flags are 0 and 1, whole numbers floats.
    """
    return _looped(_each_row, rule)


@cache
def filled_rows(function: Function) -> Function:
    """Return a compiled f(seen, results) that calls function(row, its row of results), which writes there."""
    return _looped(_each_filled, function)


def _looped(loop: Function, function: Function) -> Function:
    assert isinstance(function, FunctionType) and isinstance(loop, FunctionType)
    folder = str(Path(CACHE_FOLDER) / f"rules-{_digest(function)}")
    scope = globals() | {"rule": _with_callees(function, folder)}
    own = FunctionType(loop.__code__, scope, f"rows_of_{function.__name__}")
    own.__qualname__ = f"rows_of_{function.__module__}.{function.__name__}"  # names the file that it is kept in
    return kept(own, folder=folder)


def _each_row(seen, windows, *constants):  # type: ignore[no-untyped-def]
    for row in range(len(seen)):
        windows[row] = rule(Observation(*to_fixed_tuple(seen[row], _FEATURES)), *constants)  # type: ignore[name-defined, call-arg]  # noqa: F821


def _each_filled(seen, results):  # type: ignore[no-untyped-def]
    for row in range(len(seen)):
        rule(Observation(*to_fixed_tuple(seen[row], _FEATURES)), results[row])  # type: ignore[name-defined, call-arg]  # noqa: F821


@cache
def _with_callees(function: FunctionType, folder: str) -> Function:
    """Compile a function whose own module, or another, has those that it calls, which are compiled first."""
    compiled = {name: _with_callees(called, folder) for name, called in _callees(function)}
    own = FunctionType(function.__code__, function.__globals__ | compiled, function.__name__, function.__defaults__)
    return kept(own, folder=folder, _nrt=False)


def _callees(function: FunctionType) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions that a function calls by a global name; attributes may bear the same names."""
    loads = (step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL")
    for name in dict.fromkeys(loads):
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType):
            yield name, called


def _digest(rule: FunctionType) -> str:
    """Return a digest of the sources of a rule and of all that it calls: numba heeds its own file alone."""
    files, left = set[str](), [rule]
    while left:
        function = left.pop()
        files.add(inspect.getfile(function))
        left += [called for _, called in _callees(function)]
    return hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in sorted(files))).hexdigest()[:16]
