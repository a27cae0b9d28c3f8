"""The root of what a user can put right: scripts end it in one line (`dsd_gym.files.exits_cleanly`)."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can put right; one line that says what and where."""
