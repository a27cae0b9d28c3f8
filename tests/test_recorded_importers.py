"""Importers: worked by hand, and for all rounds no accepted and no committed token is lost or made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.config import ConfigError
from dsd_gym.record_acceptance import import_recording, main
from dsd_gym.recorded.positions import Positions
from dsd_gym.recorded.recording import RecordedRequest, read_recording
from dsd_gym.recorded.session_log import read_session_log
from dsd_gym.recorded.vllm import read_vllm

T, F, N = True, False, None
RUN = {"kind": "run", "format": 1, "controller": "static:3", "draft": "small", "target": "large"}
END = {"kind": "request", "stream": 0, "prompt_tokens": 9, "committed_tokens": 10}


def line(drafted: int, accepted: int, cloud: int, committed: int, **more: Any) -> dict[str, Any]:
    counts = {"drafted": drafted, "accepted": accepted, "cloud_tokens": cloud, "committed": committed}
    return {"kind": "round", "stream": 0} | counts | more


def write(path: Path, items: list[Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_a_session_by_hand(tmp_path: Path) -> None:
    guess = {"has_first_guess": 1.0, "first_guess_confidence": 0.4, "committed_tokens": 6.0}
    rounds = [
        line(2, 2, 0, 3, confidences=[0.9, 0.8]),  # 1, 2 accepted; 3 the bonus
        line(3, 1, 0, 2, confidences=[0.7, 0.2, 0.6]),  # 4 accepted, 5 rejected; behind it a wrong beginning
        line(0, 0, 2, 2, observation=guess),  # 6, 7 from the cloud; the draft had guessed at 6
        line(1, 0, 1, 2, confidences=[0.1]),  # 8 from the cloud before it stopped, 9 rejected
    ]
    (request,) = read_session_log(write(tmp_path / "log", [RUN, *rounds, END]))
    assert request == RecordedRequest(
        (N, T, T, N, T, F, N, N, N, F), (N, 0.9, 0.8, N, 0.7, 0.2, 0.4, N, N, 0.1), "0", None, 9, 10
    )


def test_runs_of_one_pair_add_up_and_a_killed_one_counts_as_far_as_it_got(tmp_path: Path) -> None:
    rounds = [line(2, 0, 0, 1), {**line(1, 1, 0, 2), "stream": 1}]
    requests = read_session_log(write(tmp_path / "log", [RUN, *rounds, RUN, rounds[0]]))
    assert [request.id for request in requests] == ["0", "1", "2.0"]
    assert [request.accepted for request in requests] == [(N, F), (N, T, N), (N, F)]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([RUN, [1]], "log:2: .*expected an object of kind"),
        ([RUN, {"kind": "round"}], "log:2: .*is missing"),
        ([RUN, line(2, 3, 0, 4)], "log:2: .*2 drafted, 3 accepted and 4 committed make no round"),
        ([RUN, line(3, 1, 0, 4)], "make no round"),
        ([RUN, line(0, 0, 2, 3)], "3 committed, 2 of them in the cloud, and nothing drafted"),
        ([RUN, line(2, 1, 0, 2, confidences=[0.5])], "1 confidences for 2 drafted"),
        ([RUN, line(True, 1, 0, 2)], "drafted must be a whole number"),
        ([RUN, line(2, 2, 0, 3), {**END, "committed_tokens": 3}], "log:3: .*has 3 tokens, but its rounds have 4"),
        ([RUN, {**RUN, "draft": "other"}], "log:2: .*other and large, but an earlier run is of small and large"),
    ],
)
def test_a_broken_session_is_named(tmp_path: Path, items: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_session_log(write(tmp_path / "log", items))


STEPS = {"per_step_accepted": [2, 0, 1], "per_step_drafted": [2, 3, 3]}
POSITIONS = (N, T, T, N, F, T, F)


@pytest.mark.parametrize("wrap", [lambda steps: steps, lambda steps: {"metrics": {"speculative_decoding": steps}}])
def test_steps_of_vllm_by_hand(tmp_path: Path, wrap: Any) -> None:
    lines = write(tmp_path / "lines", [wrap(STEPS), wrap({"per_step_accepted": [0], "per_step_drafted": [0]})])
    assert [request.accepted for request in read_vllm(lines)] == [POSITIONS, (N, N)]
    (tmp_path / "array").write_text(json.dumps([wrap(STEPS)] * 2, indent=2))
    assert [request.accepted for request in read_vllm(tmp_path / "array")] == [POSITIONS] * 2


def test_a_plain_object_of_lists_holds_a_request_each(tmp_path: Path) -> None:
    (tmp_path / "lists").write_text(json.dumps({name: [steps, [1]] for name, steps in STEPS.items()}))
    assert [request.accepted for request in read_vllm(tmp_path / "lists")] == [POSITIONS, (N, T, N)]


def test_an_output_that_ended_inside_the_last_step_is_cut(tmp_path: Path) -> None:
    response = {"id": "cmpl-1", "usage": {"prompt_tokens": 5, "completion_tokens": 3}, "metrics": STEPS}
    (request,) = read_vllm(write(tmp_path / "one", [response]))
    assert request == RecordedRequest(POSITIONS[:3], (), "cmpl-1", None, 5, 3)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"per_step_accepted": [1]}, "per_step_drafted is missing; .*detailed"),
        ({"metrics": {"speculative_decoding": {"num_spec_steps": 4}}}, "per_step_accepted is missing"),
        ({**STEPS, "per_step_drafted": [2]}, "two lists of one length"),
        ({**STEPS, "per_step_accepted": [3, 0, 1]}, "2 drafted, 3 accepted and 4 committed make no round"),
        ({**STEPS, "per_step_accepted": [1.5, 0, 1]}, "whole numbers"),
        (3, "expected an object"),
    ],
)
def test_broken_metrics_are_named(tmp_path: Path, item: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"responses:2: .*{message}"):
        read_vllm(write(tmp_path / "responses", [STEPS, item]))


ROUNDS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 8)).map(lambda r: (r[0], max(r[1:]), min(r[1:]))),
    max_size=20,
)


@given(ROUNDS)
def test_no_accepted_and_no_committed_token_is_lost_or_made_up(rounds: list[tuple[int, int, int]]) -> None:
    positions = Positions()
    for cloud, drafted, accepted in rounds:
        positions.cloud(cloud)
        positions.window(drafted, accepted, accepted + 1, [0.5] * drafted)
    assert positions.accepted.count(True) == sum(accepted for _, _, accepted in rounds)
    assert positions.accepted.count(False) == sum(accepted < drafted for _, drafted, accepted in rounds)
    assert positions.count == 1 + sum(cloud + accepted + 1 for cloud, _, accepted in rounds)
    known = [confidence is not None for confidence in positions.confidence]
    assert known == [flag is not None for flag in positions.accepted]


def test_the_command_writes_a_recording_and_says_what_is_in_it(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "responses.jsonl", [STEPS] * 50)
    main([str(source), "--format", "vllm", "--out", str(tmp_path / "out.jsonl")])
    said = "50 requests, 300 positions, 83.3% of them tested: 60.0% accepted; with the untested"
    assert said in capsys.readouterr().out
    assert [request.accepted for request in read_recording(tmp_path / "out.jsonl")] == [POSITIONS] * 50


def test_the_command_refuses_what_has_no_tests_and_its_own_source(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "log", [RUN, line(0, 0, 4, 4)])
    with pytest.raises(SystemExit, match="2"):
        main([str(source), "--format", "runtime", "--out", str(tmp_path / "out")])
    assert "no draft was verified in it" in capsys.readouterr().err and not (tmp_path / "out").exists()
    write(source, [RUN, line(2, 1, 0, 2)])
    with pytest.raises(ConfigError, match="this is the source itself"):
        import_recording(source, "runtime", source)
