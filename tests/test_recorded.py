"""The file reads back, and what is wrong with it is named. The replay is luck alone and leaves recorded flags alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import make_controller
from dsd_gym.acceptance import PROFILES, accepted_run, constant_profile
from dsd_gym.config import ConfigError
from dsd_gym.recorded import RecordedAcceptance, RecordedRequest, read_recording, recorded_acceptance, write_recording
from dsd_gym.recorded.hazard import fit_hazard
from dsd_gym.recorded.positions import Positions
from dsd_gym.reference import reference_ms
from dsd_gym.scenario import Acceptance, Scenario
from dsd_gym.scenario_files import scenario_from
from dsd_gym.simulator import simulate

FLAGS = st.lists(st.none() | st.booleans(), min_size=2, max_size=12)
CONFIDENCES = st.none() | st.floats(0.0, 1.0)


@st.composite
def recorded_requests(draw: st.DrawFn) -> RecordedRequest:
    flags = draw(FLAGS)
    confidence = draw(st.just([]) | st.lists(CONFIDENCES, min_size=len(flags), max_size=len(flags)))
    tokens = st.none() | st.integers(0, 10**6)
    name = draw(st.none() | st.text())
    return RecordedRequest(tuple(flags), tuple(confidence), name, None, draw(tokens), draw(tokens))


RECORDINGS = st.lists(recorded_requests(), min_size=1, max_size=5).filter(lambda some: any(one.tested for one in some))


def replay(requests: list[RecordedRequest]) -> RecordedAcceptance:
    return RecordedAcceptance(tuple(requests), fit_hazard(requests))


@given(requests=RECORDINGS)
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, requests: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "recording.jsonl"
    write_recording(path, requests, "a test")
    assert read_recording(path) == requests


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "expected an object with a list"),
        ('{"accepted": 3}', "expected an object with a list"),
        ('{"accepted": [1]}', "true, false and null"),
        ('{"accepted": [true], "confidence": [2]}', "from 0 to 1"),
        ('{"accepted": [true], "confidence": [NaN]}', "from 0 to 1"),
        ('{"accepted": [true], "confidence": [true]}', "from 0 to 1"),
        ('{"accepted": [true], "confidence": [0.1, 0.2]}', "2 confidences for 1 positions"),
        ('{"accepted": [true], "confidences": [0.1]}', "unknown key confidences.*confidence"),
        ('{"accepted": [true], "output_tokens": 1.5}', "output_tokens must be a whole number"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "recording"
    write_recording(path, [RecordedRequest((None, True))], "a test")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"recording:3: not a line of an acceptance recording: .*{reason}"):
        read_recording(path)


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"kind": "run"}\n')
    with pytest.raises(ConfigError, match=r"other:1: .*expected the header"):
        read_recording(tmp_path / "other")
    (tmp_path / "other").write_text('{"format": "dsd-gym acceptance", "version": 2}\n')
    with pytest.raises(ConfigError, match=r"other:1: .*version 2; this one reads 1"):
        read_recording(tmp_path / "other")
    write_recording(tmp_path / "empty", [RecordedRequest((None, None))], "a test")
    with pytest.raises(ConfigError, match="empty: the recording has no tested position"):
        read_recording(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"absent: cannot be read: No such file"):
        read_recording(tmp_path / "absent")


@given(RECORDINGS, st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, 40))
def test_a_longer_tape_begins_with_the_shorter(requests: Any, seed: int, request_id: int, length: int) -> None:
    short, long = (replay(requests).tape(seed, request_id, n) for n in (length, 40))
    assert short.accepted == long.accepted[:length] and short.confidence == long.confidence[:length]
    assert all(isinstance(flag, bool) for flag in long.accepted)
    assert all(0.0 <= value <= 1.0 for value in long.confidence)


@given(RECORDINGS, st.integers(0, 2**40))
def test_what_was_tested_comes_out_as_it_did_once_in_each_epoch(requests: Any, seed: int) -> None:
    process = replay(requests)
    for epoch in (0, 3):
        tapes = [process.tape(seed, epoch * len(requests) + i, 12) for i in range(len(requests))]
        left = list(tapes)
        for one in sorted(requests, key=lambda request: request.accepted.count(None)):
            matches = [tape for tape in left if agrees(tape.accepted, one.accepted)]
            matches = [tape for tape in matches if agrees(tape.confidence, one.confidence)]
            assert matches, f"{one} came out in no tape"
            left = [tape for tape in left if tape is not matches[0]] if len(matches) == 1 else left


def agrees(values: list[Any], recorded: tuple[Any, ...]) -> bool:
    return all(known is None or known == value for value, known in zip(values, recorded, strict=False))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    patterns = [RecordedRequest((None, *(bool(i >> bit & 1) for bit in range(5)))) for i in range(32)]
    process = replay(patterns)

    def order(seed: int, epoch: int) -> list[tuple[bool, ...]]:
        return [tuple(process.tape(seed, 32 * epoch + i, 6).accepted[1:]) for i in range(32)]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(sorted(one) == sorted(pattern.accepted[1:] for pattern in patterns) for one in orders)
    assert len({tuple(one) for one in orders}) == 3


@pytest.mark.parametrize("a", [0.3, 0.8])
def test_a_constant_acceptance_is_found_and_continued(a: float) -> None:
    process = replay([RecordedRequest(tuple(constant_profile(a).tape(0, i, 100).accepted)) for i in range(200)])
    error = 4.0 * math.sqrt(a * (1 - a) / 20_000)
    assert process.mean_acceptance == pytest.approx(a, abs=error)
    assert process.hazard.prior_tests > 200, "requests are alike"
    later = [flag for i in range(200) for flag in process.tape(5, i, 200).accepted[100:]]
    assert np.mean(later) == pytest.approx(a, abs=2 * error)
    assert set(process.tape(0, 0, 9).confidence) == {process.mean_acceptance}, "none was recorded: it tells nothing"


def test_acceptance_after_a_run_is_found_whatever_the_windows_tested() -> None:
    tapes = [replace(PROFILES["chat"], request_sd=0.0).tape(2, i, 200).accepted for i in range(800)]
    runs: list[list[bool]] = [[] for _ in range(200)]
    for tape in tapes:
        run = 0
        for flag in tape[tape.index(False) + 1 :]:
            runs[run].append(flag)
            run = run + 1 if flag else 0
    expected = [np.mean(flags) for flags in runs[:4]]
    for windows in ((4,), (4, 1, 6)):
        hazard = fit_hazard([recorded(tape, windows) for tape in tapes])
        found = [hazard.probability(0.0, run, None) for run in range(4)]
        assert found == pytest.approx(expected, abs=0.02)
    assert expected[3] - expected[1] > 0.06, "the mean alone would not do"


def recorded(flags: list[bool], windows: tuple[int, ...]) -> RecordedRequest:
    """Return what is seen of flags when windows of these lengths take turns."""
    positions = Positions()
    for window in itertools.cycle(windows):
        if positions.count + window >= len(flags):
            return RecordedRequest(tuple(positions.accepted))
        accepted = accepted_run(flags, positions.count, window)
        positions.window(window, accepted, accepted + 1)
    raise AssertionError("a cycle has no end")


def test_requests_are_as_different_as_they_were_recorded() -> None:
    """Acceptance per request drawn from a beta distribution of share 1/(1 + 6) between requests."""
    random = np.random.default_rng(1)
    shares = random.beta(4.2, 1.8, 1500)
    flags = random.uniform(size=(1500, 40)) < shares[:, None]
    hazard = fit_hazard([RecordedRequest(tuple(row.tolist())) for row in flags])
    assert hazard.prior_tests == pytest.approx(6.0, rel=0.2)
    few = hazard.request(RecordedRequest((True,))) - hazard.request(RecordedRequest((False,)))
    many = hazard.request(RecordedRequest((True,) * 40)) - hazard.request(RecordedRequest((False,) * 40))
    assert 0.0 < few < many / 4


def test_a_confidence_that_was_seen_weighs_where_no_flag_was() -> None:
    random = np.random.default_rng(2)
    confidence = random.uniform(size=(100, 60))
    flags = random.uniform(size=(100, 60)) < confidence  # calibrated
    requests = [
        RecordedRequest(tuple(f.tolist()) + (None,) * 60, tuple(c.tolist()) + (0.05,) * 30 + (0.95,) * 30)
        for f, c in zip(flags, confidence, strict=True)
    ]
    process = replay(requests)
    tapes = [process.tape(0, i, 120).accepted for i in range(100)]
    assert np.mean([tape[60:90] for tape in tapes]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([tape[90:] for tape in tapes]) == pytest.approx(0.95, abs=0.03)


def test_a_scenario_names_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    write_recording(path, [RecordedRequest((None, *[True] * 40))], "a test")
    acceptance = {"profile": "recorded", "file": str(path)}
    scenario = scenario_from({"acceptance": acceptance, "max_requests": 5}, source="here")
    records = simulate(scenario, make_controller("static:4", 12), seed=0)
    assert records.rounds and all(round.accepted == min(round.drafted, round.committed) for round in records.rounds[:5])
    assert reference_ms(scenario) < reference_ms(Scenario()), "a reference for drafts that are always accepted"


def test_a_recording_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    for flag in (True, False):
        write_recording(path, [RecordedRequest((None, flag))], "a test")
        assert recorded_acceptance(str(path)).tape(0, 0, 2).accepted[1] is flag


@pytest.mark.parametrize(
    ("acceptance", "message"),
    [
        ({"profile": "recorded"}, "file is for profile 'recorded', which needs it"),
        ({"file": "some.jsonl"}, "file is for profile 'recorded', which needs it"),
    ],
)
def test_a_profile_and_its_file_go_together(acceptance: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scenario_from({"acceptance": acceptance}, source="here")


def test_a_recording_that_is_not_there_is_named() -> None:
    scenario = replace(Scenario(), acceptance=Acceptance("recorded", file="nowhere.jsonl"))
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl: no such recording \(acceptance\.file\)"):
        simulate(scenario, make_controller("static:4", 12), seed=0)
