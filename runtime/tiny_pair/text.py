"""Text that the tiny pair learns from, and prompts that it has not seen.

`code` and `docs` are CPython's standard library as the running interpreter has it: source, docstrings and
`pydoc_data.topics`, under the Python Software Foundation License Version 2
(https://docs.python.org/3/license.html). `json`, `arithmetic` and `logs` are made up here (`tiny_generators.py`).
A tenth of the library, chosen by file name, is held out in every version of Python; generated text is held
out by its seed. Needs nothing but the standard library, so that prompts cost no import of torch.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

from dsd_gym.config import ConfigError
from runtime.tiny_pair.generators import arithmetic_document, json_document, log_document

T = TypeVar("T")
KINDS = ("code", "docs", "json", "arithmetic", "logs")
GENERATORS: dict[str, Callable[[Random], str]] = {
    "json": json_document,
    "arithmetic": arithmetic_document,
    "logs": log_document,
}
SKIPPED = {"test", "tests", "idle_test", "encodings", "pydoc_data", "site-packages", "dist-packages", "turtledemo"}
SKIPPED_STARTS = ("_sysconfig", "config-", "__phello__", "__pycache__")  # built or empty, not written
HELD_OUT_SHARE = 10
LONGEST = 6000  # characters; what is longer is mostly tables
PASSAGE = (100, 1500)  # characters of a passage of the library: uniform goal, met at the next blank line
CHARACTERS = {"code": 2_400_000, "docs": 1_400_000, "json": 600_000, "arithmetic": 400_000, "logs": 700_000}
MOST_PIECES = 105
PROMPT = {"code": (90, 200), "docs": (90, 200), "json": (70, 150), "arithmetic": (65, 110), "logs": (60, 140)}


def documents(kind: str, seed: int, *, held_out: bool = False) -> Iterator[str]:
    """Yield the documents of a kind, shuffled by the seed: the library's passages once, made-up ones without end."""
    rng = Random(f"{kind} {seed} {'held out' if held_out else 'training'}")
    if kind in GENERATORS:
        return (GENERATORS[kind](rng) for _ in itertools.count())
    if kind not in KINDS:
        raise ConfigError(f"{kind!r}: no such kind of text; one of {', '.join(KINDS)}")
    passages = [passage for text in _library_texts(kind, held_out) for passage in _passages(text, rng)]
    return iter(_shuffled([passage for passage in passages if len(passage) <= LONGEST], rng))


def corpus(seed: int, share: float = 1.0) -> list[str]:
    """Return documents of all kinds to learn from, shuffled: 5.5 million characters, or a share of them."""
    chosen = []
    for kind, characters in CHARACTERS.items():
        wanted = share * characters
        for text in documents(kind, seed):
            chosen.append(text)
            wanted -= len(text)
            if wanted <= 0:
                break
    return _shuffled(chosen, Random(f"corpus {seed}"))


def prompts(kind: str, count: int, seed: int) -> list[str]:
    """Return beginnings of held-out documents, of 20 to 120 tokens, cut after a line (code, logs) or a word.

    The same arguments give the same prompts; those of `code` and `docs` follow the version of Python.
    """
    rng = Random(f"{kind} {seed} prompts")
    held_out = itertools.chain.from_iterable(documents(kind, seed, held_out=True) for _ in itertools.count())
    begun = (_cut(text, kind, rng) for text in held_out)
    return list(itertools.islice(filter(None, begun), count))


def _cut(text: str, kind: str, rng: Random) -> str:
    """Return whole lines of code or logs, whole words of the rest; nothing where too little would stay to be told."""
    shortest, longest = PROMPT[kind]
    by_line = kind in ("code", "logs")
    end = text.rfind("\n" if by_line else " ", shortest, rng.randint(shortest, longest)) + 1
    pieces = len(re.findall(r"[A-Z]|[a-z]{1,3}|[^A-Za-z\s]", text[:end]))  # rarely less than the tokens
    if not (end and pieces <= MOST_PIECES and text.isascii() and len(text) >= 1.5 * longest):
        return ""
    return text[:end].rstrip() + "\n" * by_line


@cache
def _library_texts(kind: str, held_out: bool) -> list[str]:
    """Return source files; or docstrings, file by file, and the topics of `help()`."""
    sources = [path.read_text(encoding="utf-8", errors="replace") for path in _library(held_out)]
    if kind == "code":
        return sources
    from pydoc_data.topics import topics

    docstrings = itertools.chain.from_iterable(map(_docstrings, sources))
    return [*docstrings, *(topics[name] for name in sorted(topics) if _is_held_out(name) == held_out)]


def _docstrings(source: str) -> Iterator[str]:
    """Yield the docstrings of a file that are more than a line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and "\n" in text:
                yield text


def _passages(text: str, rng: Random) -> Iterator[str]:
    """Cut a text at blank lines into passages of varied length, each with its own left margin."""
    held: list[str] = []
    goal = rng.randint(*PASSAGE)
    for paragraph in re.split(r"\n{2,}(?=\S| {4}\S)", text.strip("\n")):
        held.append(paragraph)
        if sum(map(len, held)) >= goal:
            yield textwrap.dedent("\n\n".join(held)) + "\n"
            held, goal = [], rng.randint(*PASSAGE)
    if held:
        yield textwrap.dedent("\n\n".join(held)) + "\n"


def _library(held_out: bool) -> list[Path]:
    """Return the standard library's own source files, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith(SKIPPED_STARTS)]
        found += [Path(folder, f) for f in files if f.endswith(".py") and not f.startswith(SKIPPED_STARTS)]
    if not found:
        raise ConfigError(f"{root}: no source files of Python's standard library")
    return sorted(path for path in found if _is_held_out(path.relative_to(root).as_posix()) == held_out)


def _is_held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % HELD_OUT_SHARE == 0


def _shuffled(items: list[T], rng: Random) -> list[T]:
    return rng.sample(items, len(items))
