"""What every script needs around its work: a command line, a clean end, files that are whole or not there."""

from __future__ import annotations

import argparse
import functools
import math
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

from dsd_gym.config import ConfigError
from dsd_gym.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def exits_cleanly(main: Callable[P, R]) -> Callable[P, R]:
    """Wrap a script's `main`: what the user can put right, files included, ends in one line on stderr and exit code 2.

    An interrupt ends in 130 and a reader that has gone away (`| head`) in 141, both without a traceback.
    """

    @functools.wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = main(*args, **kwargs)
            sys.stdout.flush()  # a broken pipe shows here, not at the interpreter's end
            return result
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(USAGE_ERROR) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        except MemoryError as error:
            print(f"error: not enough memory: {str(error) or 'less at a time takes less'}", file=sys.stderr)
            raise SystemExit(USAGE_ERROR) from None
        except BrokenPipeError:
            # The interpreter flushes stdout once more as it ends: give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(BROKEN_PIPE) from None
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            raise SystemExit(USAGE_ERROR) from None

    return wrapped


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are one line and exit code 2, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(message)


def whole_number(text: str) -> int:
    """Return a whole number from 1 on, as the `type` of an option."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    if int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2^31, got {text}")
    return int(text)


def number_from_0(text: str) -> float:
    """Return a finite number from 0 on, as the `type` of an option."""
    number = _number(text)
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return number


def number_above_0(text: str) -> float:
    """Return a finite number above 0, as the `type` of an option."""
    number = _number(text)
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def check_writable(folder: Path) -> None:
    """Make a folder if need be; ConfigError where nothing can be written in it, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", "")
        (folder / ".writable").unlink(missing_ok=True)  # another process may have tried too
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from None


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a whole file or leave what was there: a temporary file in the same folder, synced and renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
