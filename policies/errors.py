"""What is wrong with a policy, in one line that no file can use to steer a terminal."""

from __future__ import annotations

from dsd_gym.errors import UserError


class PolicyError(UserError):
    """A policy that cannot be used; one line that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(" ".join(reason.splitlines())))


def printable(text: str) -> str:
    """Escape what could steer a terminal: a policy's texts come from a file that anyone may have written."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
