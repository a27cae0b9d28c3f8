"""From pydantic's list of errors to one line in the user's words: where, what, and what would be right."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic_core import ErrorDetails

_Keys = tuple[str, ...]

_EXPECTED = {
    "float_type": "expected a number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "none_required": "expected null",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "dataclass_type": "expected a mapping",
    "finite_number": "must be finite",
}
_MESSAGES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "missing",
    "value_error": lambda context: str(context["error"]),
    "literal_error": lambda context: f"expected {context['expected']}",
    "union_tag_not_found": lambda context: f"missing {context['discriminator']}",
    "union_tag_invalid": lambda c: f"unknown {c['discriminator']} '{c['tag']}'; known: {c['expected_tags']}",
    "too_short": lambda c: f"must have at least {c['min_length']} items, got {c['actual_length']}",
    "too_long": lambda c: f"must have at most {c['max_length']} items, got {c['actual_length']}",
}


def did_you_mean(name: str, known: Sequence[str], known_as: str = "known") -> str:
    """Return `; did you mean X?` for the nearest known name or, where none is near, `; known: X, Y`."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; {known_as}: {', '.join(known)}"


def summary(cls: type[Any], data: dict[str, Any], errors: list[ErrorDetails]) -> str:
    """Return the first error with its key path, and how many more there are; unknown keys come first."""
    unknown_first = sorted(errors, key=lambda error: error["type"] != "unexpected_keyword_argument")
    messages: dict[_Keys, list[str]] = {}
    located = [(error, *_locate(error, data)) for error in unknown_first]
    for error, path in _of_best_members(located):
        messages.setdefault(path, []).append(_describe(cls, error, path))
    path, first = next(iter(messages.items()))
    where = f"{'.'.join(path)}: " if path else ""
    others = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    return where + _either(first) + others


def _locate(error: ErrorDetails, data: Any) -> tuple[_Keys, tuple[int, str]]:
    """Return the key path of an error, and the depth and name of the first union member that it is about.

    pydantic's own location names union members too: those are the segments that the data does not have.
    """
    path: list[str] = []
    member = (-1, "")
    location = error["loc"][1:]
    for depth, segment in enumerate(location):
        held = range(len(data)) if isinstance(data, list) else data
        if isinstance(held, dict | range) and segment in held:
            data = data[segment]
            path.append(str(segment))
        elif error["type"] == "missing" and depth == len(location) - 1:
            path.append(str(segment))
        elif member[0] < 0:
            member = (len(path), str(segment))
    return tuple(path), member


def _of_best_members(
    located: list[tuple[ErrorDetails, _Keys, tuple[int, str]]],
) -> list[tuple[ErrorDetails, _Keys]]:
    """Keep, at each union, the errors of the members that fit best: of the right kind, then fewest errors."""
    unions: dict[_Keys, dict[str, list[bool]]] = {}
    for _, path, (depth, member) in located:
        if depth >= 0:
            unions.setdefault(path[:depth], {}).setdefault(member, []).append(len(path) == depth)
    best = {at: min((any(bad), len(bad)) for bad in members.values()) for at, members in unions.items()}
    return [
        (error, path)
        for error, path, (depth, member) in located
        if depth < 0 or (any(bad := unions[path[:depth]][member]), len(bad)) == best[path[:depth]]
    ]


def _describe(cls: type[Any], error: ErrorDetails, path: _Keys) -> str:
    """Return what is wrong, in the user's words."""
    kind = error["type"]
    if kind == "unexpected_keyword_argument":
        return "unknown key" + did_you_mean(path[-1], _known_keys(cls, path[:-1]), known_as="known keys")
    expected = _EXPECTED.get(kind) or error["msg"].replace("Input should", "must", 1)
    if message := _MESSAGES.get(kind):
        expected = message(error.get("ctx", {}))
        if kind != "literal_error":
            return expected
    return f"{expected}, got {shown(error['input'])}"


def _either(messages: list[str]) -> str:
    """Join what the members of a union expect of the same value: `expected a number or 'auto', got 'abc'`."""
    expected = [message.rpartition(", got ")[0].removeprefix("expected ") for message in messages]
    if len(set(messages)) == 1 or not all(message.startswith("expected ") for message in messages):
        return messages[0]
    return f"expected {' or '.join(dict.fromkeys(expected))}, got {messages[0].rpartition(', got ')[2]}"


def _known_keys(cls: type[Any], path: _Keys) -> list[str]:
    """Return the field names of the dataclass (of all, in a union) at `path` below `cls`."""
    found = (hint for hint in _types_at(cls, path) if dataclasses.is_dataclass(hint))
    names = (field.name for hint in found for field in dataclasses.fields(hint) if field.init)
    return list(dict.fromkeys(names))


def _types_at(hint: Any, path: _Keys) -> list[Any]:
    """Return the types that may stand at `path` below the type `hint`."""
    if get_origin(hint) in (Union, UnionType):
        return [found for member in get_args(hint) for found in _types_at(member, path)]
    if not path:
        return [hint]
    if dataclasses.is_dataclass(hint):
        return _types_at(get_type_hints(hint).get(path[0]), path[1:])
    return [found for item in get_args(hint) for found in _types_at(item, path[1:])]


def shown(value: Any) -> str:
    """Return a value as the user would write it, cut to a reasonable length."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."
