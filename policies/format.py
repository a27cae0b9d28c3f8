"""The policy file: one `.safetensors` (tensors and a JSON header, no pickle: loading one runs nothing).

Tensors: `layer0.weight` (out, in) and `layer0.bias` (out,), then `layer1.*` and so on, float32; of a tree those of
`policies.tree_nodes`. Metadata: the key `dsd_gym_policy` holds the `PolicyHeader` as JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from policies.errors import PolicyError
from policies.header import PolicyHeader
from policies.kinds import TREE
from policies.policy import Layer, Policy
from policies.tree_nodes import TENSOR_TYPES, from_tensors, to_tensors

METADATA_KEY = "dsd_gym_policy"
MAX_FILE_BYTES = 16 * 2**20
"""A policy is 40 to 80 kB; what is larger than this is something else, and is not read."""


def save_policy(policy: Policy, path: str | Path) -> None:
    """Write `policy` to `path` at once: a reader sees the old file or the new one, never a part.

    Raises PolicyError if the header is not plain JSON or the file cannot be written; an old file then stays.
    """
    path = Path(path)
    try:
        _replace(path, _to_bytes(policy))
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
    except OSError as error:
        raise PolicyError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_policy(path: str | Path, max_window: int | None = None) -> Policy:
    """Return the policy in `path`; raise PolicyError, which names the file, if it cannot be used.

    `max_window` is the longest window that the caller can serve: a policy that may ask for more is refused.
    """
    path = Path(path)
    try:
        policy = _read(path)
        if max_window is not None and policy.header.max_window > max_window:
            asked = policy.header.max_window
            raise PolicyError(f"it may ask for windows of {asked}; at most {max_window} can be served")
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
    except OSError as error:
        raise PolicyError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return policy


def _to_bytes(policy: Policy) -> bytes:
    tensors = {} if policy.tree is None else to_tensors(policy.tree)
    for index, layer in enumerate(policy.layers):
        tensors[f"layer{index}.weight"] = np.ascontiguousarray(layer.weight)
        tensors[f"layer{index}.bias"] = np.ascontiguousarray(layer.bias)
    try:
        header = json.dumps(asdict(policy.header), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyError(f"header is not plain JSON: {error}") from None
    data = save(tensors, metadata={METADATA_KEY: header})
    if len(data) > MAX_FILE_BYTES:
        raise PolicyError(f"{len(data):,} bytes is more than a policy may have ({MAX_FILE_BYTES:,})")
    return data


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> Policy:
    size = path.stat().st_size
    if not path.is_file():
        raise PolicyError("not a file")
    if size > MAX_FILE_BYTES:
        raise PolicyError(_foreign(path) or f"{size:,} bytes is too large for a policy")
    try:
        with safe_open(path, framework="numpy") as file:
            header = _header(file.metadata())
            tensors = {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise PolicyError(_foreign(path) or f"truncated, or not a safetensors file ({error})") from None
    if header.kind == TREE:
        return Policy(header, (), from_tensors(tensors))
    return Policy(header, _layers(tensors))


def _header(metadata: dict[str, str] | None) -> PolicyHeader:
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        raise PolicyError(f"a safetensors file, but not a policy: no {METADATA_KEY} in its metadata")
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"header is not JSON ({error})") from None
    return PolicyHeader.from_dict(values)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _tensor(file: Any, name: str) -> NDArray[Any]:
    dtype, needed = file.get_slice(name).get_dtype(), TENSOR_TYPES.get(name.removeprefix("tree."), "F32")
    if dtype != needed:
        raise PolicyError(f"{name} is {dtype}, not {needed}")
    tensor: NDArray[Any] = file.get_tensor(name)
    return tensor


def _layers(tensors: dict[str, NDArray[np.float32]]) -> tuple[Layer, ...]:
    count = (len(tensors) + 1) // 2
    expected = {f"layer{index}.{part}" for index in range(count) for part in ("weight", "bias")}
    if wrong := sorted(expected ^ tensors.keys()):
        described = (f"{'no' if name in expected else 'unknown'} tensor {name}" for name in wrong)
        raise PolicyError(f"layers must be layer0.weight, layer0.bias, ...: {', '.join(described)}")
    return tuple(Layer(tensors[f"layer{i}.weight"], tensors[f"layer{i}.bias"]) for i in range(count))


def _foreign(path: Path) -> str:
    """Return what a file that is no safetensors looks like, or nothing. It is not unpickled."""
    with path.open("rb") as file:
        start = file.read(4)
    advice = "it may run code when loaded, so it is not: export the policy to .safetensors first"
    if start == b"PK\x03\x04":
        return f"looks like {_archive(path)}; {advice}"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"looks like a pickle; {advice}"
    return ""


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "a damaged zip archive"
    if "_stable_baselines3_version" in names:
        return "a stable-baselines3 checkpoint (zip)"
    if any(name.endswith("data.pkl") for name in names):
        return "a torch checkpoint (zip)"
    return "a zip archive"
