"""Acceptance as it was recorded: a file format, importers, and a replay that fills in what nobody tested."""

from dsd_gym.recorded.recording import RecordedRequest, read_recording, write_recording
from dsd_gym.recorded.replay import RecordedAcceptance, recorded_acceptance

__all__ = ["RecordedAcceptance", "RecordedRequest", "read_recording", "recorded_acceptance", "write_recording"]
