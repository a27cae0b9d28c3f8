"""Configuration: YAML in, frozen dataclasses out, and one clear line for whatever is wrong with it.

Defaults live in the dataclasses alone; a YAML file holds differences from them, and the command line
overrides single values by dotted key (`ppo.n_envs=512`, `edges.0.count=3`). Types and constraints, such as
`Annotated[float, Field(gt=0)]`, are checked by pydantic, strictly: no text for a number, no true for 1.

Scalars are those of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `3e-4` is a number, `on` text.
Digits may be grouped (`1_000_000`), and a key that stands twice is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from dsd_gym.config_errors import did_you_mean, shown, summary
from dsd_gym.errors import UserError

T = TypeVar("T")
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
Crowd = Annotated[int, Field(gt=0, le=1_000_000)]
"""A number of machines or users: each is an object in memory."""
Probability = Annotated[float, Field(ge=0, le=1)]

__all__ = [
    "ConfigError",
    "Count",
    "Crowd",
    "NonNegative",
    "Positive",
    "Probability",
    "apply_overrides",
    "build",
    "config_hash",
    "did_you_mean",
    "dump_yaml",
    "parse_assignments",
    "read_yaml",
    "to_dict",
]


class ConfigError(UserError):
    """Something that the user can put right: the message is one line that says what and where."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as in the base)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping with every key as text; refuse a key that stands twice."""
        result: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in result:
                raise yaml.MarkedYAMLError(problem=f"{key.value} stands twice", problem_mark=key.start_mark)
            result[key.value] = self.construct_object(value, deep=deep)
        return result


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers  # so that what is written reads back the same


for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?\d+(_\d+)*", "-+0123456789"),
    ("float", r"[-+]?(\d+(_\d+)*(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
):  # in this order: what is not an int, yet a number, is a float
    for _character in _starts:
        _rule = (f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"))
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append(_rule)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))  # 010 is 10, not octal


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    data = _parse_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping, got {shown(data)}")
    return data


def parse_assignments(items: Sequence[str]) -> dict[str, Any]:
    """Return `key.path=value` items as a dictionary; values are YAML, and the last of equal keys holds."""
    assignments = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"[^\s.=]+(\.[^\s.=]+)*", key):
            raise ConfigError(f"{item!r}: expected key.path=value")
        assignments[key] = _parse_yaml(value, item)
    return assignments


def apply_overrides(
    data: Mapping[str, Any], assignments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a copy of `data` with dotted keys set; a whole-number segment indexes a list.

    A list that `data` does not hold is first copied from `defaults`, so that one of its items can be changed.
    """
    result = deepcopy(dict(data))
    for key, value in assignments.items():
        node: Any = result
        default: Any = defaults
        *parents, last = key.split(".")
        for depth, segment in enumerate(parents, 1):
            at = _index(node, segment, key)
            default = _item(default, segment)
            if _item(node, segment) is None:
                node[at] = deepcopy(default) if isinstance(default, list) else {}
            node = node[at]
            if not isinstance(node, dict | list):
                at = ".".join(parents[:depth])
                raise ConfigError(f"{key}: {at} is {shown(node)}, not a mapping or a list")
        node[_index(node, last, key)] = deepcopy(value)
    return result


def _index(node: dict[str, Any] | list[Any], segment: str, key: str) -> Any:
    """Return what subscripts `node` for a segment of a dotted key."""
    if isinstance(node, dict):
        return segment
    if not (segment.isdecimal() and int(segment) < len(node)):
        raise ConfigError(f"{key}: no item {segment} in a list of {len(node)} (the first is 0)")
    return int(segment)


def _item(node: Any, segment: str) -> Any:
    """Return the child of a mapping or a list, None where there is none."""
    if isinstance(node, Mapping):
        return node.get(segment)
    if isinstance(node, list) and segment.isdecimal() and int(segment) < len(node):
        return node[int(segment)]
    return None


def build(cls: type[T], data: Mapping[str, Any], *, source: str) -> T:
    """Return the dataclass `cls` made of plain data; `source` (a file name) begins the message of an error.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a broken constraint, a ValueError of the class.
    """
    text = json.dumps(data, default=repr)  # strict JSON is strict about scalars, but takes lists for tuples
    try:
        adapter = _adapter(cls)  # type: ignore[arg-type]  # every class is hashable
        result: T = adapter.validate_json(f"[{text}]")[0]
    except ValidationError as error:
        raise ConfigError(f"{source}: {summary(cls, json.loads(text), error.errors())}") from None
    return result


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    # A standard dataclass takes its configuration from what holds it: hence the tuple of one.
    return TypeAdapter(tuple[cls], config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))


def to_dict(obj: Any) -> dict[str, Any]:
    """Return a configuration dataclass as plain data (lists for tuples) that `build` makes equal again."""
    data: dict[str, Any] = to_jsonable_python(obj, inf_nan_mode="constants")
    return data


def dump_yaml(obj: Any) -> str:
    """Return a configuration dataclass as YAML, its keys in the order of the fields."""
    return yaml.dump(to_dict(obj), Dumper=_Dumper, sort_keys=False, width=110)


def config_hash(obj: Any) -> str:
    """Return 12 hex digits of the SHA-256 of a configuration's canonical JSON (3 and 3.0 ms are the same)."""
    canonical = to_dict(build(type(obj), to_dict(obj), source=type(obj).__name__))
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
