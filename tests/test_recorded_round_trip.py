"""Simulate, log, import, replay: under other windows too the replay is like the original, and naive imports are not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_world import CHAT, TOKENS, figures, record, static

from agents.base import Controller
from dsd_gym.acceptance import PROFILES
from dsd_gym.observation import Observation
from dsd_gym.recorded import RecordedRequest, read_recording, recorded_acceptance, write_recording
from dsd_gym.records import Decision
from dsd_gym.scenario import Acceptance, Scenario

WINDOW = 4
OTHERS = (1, 8, 12)
TOLERANCE = 0.02
"""Relative: tested positions come out as they did, so that only those filled in differ, a sixth of all."""


class AnyWindow(Controller):
    """Decide any window up to 8 at random, the cloud as often as two others."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return 0 or a window."""
        return Decision(max(self._random.randint(-1, 8), 0))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("recorded") / "chat.jsonl"
    record(CHAT, f"static:{WINDOW}", path)
    return path


@pytest.fixture(scope="module")
def original() -> dict[int, tuple[float, float]]:
    return {window: figures(CHAT, window) for window in OTHERS}


def replayed(path: Path) -> Scenario:
    return replace(CHAT, acceptance=Acceptance("recorded", file=str(path)))


def test_the_recorded_window_replays_to_the_last_flag(recording: Path) -> None:
    def outcome(scenario: Scenario) -> list[tuple[tuple[int, int, int], ...]]:
        """Return the rounds of each request, requests in an order of their own."""
        rounds: dict[int, list[tuple[int, int, int]]] = {}
        for round in static(scenario, WINDOW).rounds:
            rounds.setdefault(round.stream, []).append((round.drafted, round.accepted, round.committed))
        return sorted(map(tuple, rounds.values()))

    assert outcome(replayed(recording)) == outcome(CHAT)


@pytest.mark.parametrize("window", OTHERS)
def test_other_windows_fare_as_in_the_original(
    recording: Path, original: dict[int, tuple[float, float]], window: int
) -> None:
    assert figures(replayed(recording), window) == pytest.approx(original[window], rel=TOLERANCE)


@pytest.mark.parametrize(("untested", "error"), [(False, -0.08), (True, 0.03)])
def test_untested_is_neither_rejected_nor_accepted(
    recording: Path, original: dict[int, tuple[float, float]], tmp_path: Path, untested: bool, error: float
) -> None:
    naive = [
        RecordedRequest(tuple(untested if flag is None else flag for flag in request.accepted), request.confidence)
        for request in read_recording(recording)
    ]
    write_recording(tmp_path / "naive.jsonl", naive, "a mistake")
    rate, length = figures(replayed(tmp_path / "naive.jsonl"), 12)
    assert (length / original[12][1] - 1.0) / error > 1.0, "the tolerance above would not tell a naive import"
    assert (rate / original[12][0] - 1.0) / error > 1.0


def test_the_mean_over_positions_is_found_behind_the_mean_over_tests(recording: Path) -> None:
    true_mean = np.mean([PROFILES["chat"].tape(1, i, TOKENS).accepted[1:] for i in range(CHAT.max_requests or 0)])
    tested = np.mean([flag for request in read_recording(recording) for flag in request.tested])
    assert tested < true_mean - 0.005, "drafts behind a rejection are tested more often"
    assert recorded_acceptance(str(recording)).mean_acceptance == pytest.approx(true_mean, abs=0.004)


def test_confidences_tell_as_much_as_they_did(recording: Path) -> None:
    def correlation(tapes: list[tuple[list[bool], list[float]]]) -> float:
        flags, confidences = (np.ravel(values) for values in zip(*tapes, strict=True))
        return float(np.corrcoef(flags, confidences)[0, 1])

    processes = PROFILES["chat"], recorded_acceptance(str(recording))
    tapes = [[process.tape(1, i, TOKENS) for i in range(400)] for process in processes]
    first, second = (correlation([(tape.accepted[1:], tape.confidence[1:]) for tape in some]) for some in tapes)
    assert second == pytest.approx(first, abs=0.03)
    means = [np.mean([tape.confidence[1:] for tape in some]) for some in tapes]
    assert means[1] == pytest.approx(means[0], abs=0.01)


def test_a_session_that_switches_to_the_cloud_and_back_replays_too(
    tmp_path: Path, original: dict[int, tuple[float, float]]
) -> None:
    requests = record(CHAT, AnyWindow(), tmp_path / "any.jsonl")
    flags = [flag for request in requests for flag in request.accepted]
    assert 0.3 < flags.count(None) / len(flags) < 0.7, "half of the tokens are to come from the cloud"
    known = [
        value
        for request in requests
        for flag, value in zip(request.accepted, request.confidence, strict=True)
        if flag is None and value is not None
    ]
    assert len(known) > 500, "first guesses that were left to the cloud have a confidence and no flag"
    assert figures(replayed(tmp_path / "any.jsonl"), 8) == pytest.approx(original[8], rel=3 * TOLERANCE)
