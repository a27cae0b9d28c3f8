"""What must hold for every rule, whatever it is shown: answers in range, and no state that grows with streams."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import QUIET, a_round, observed

from agents import make_controller
from dsd_gym.observation import FEATURES, Observation
from dsd_gym.records import Decision, Round

RULES = ["heuristic", "leviathan", "awc", "average-reward", "sglang", "specdec", "turbospec", "ucb"]
SPECS = ["static:1", *RULES, "table:vllm", "table:tensorrt", "table:mlc", "table:tuned"]
MASKED = Observation(*(type(value)(0) for value in QUIET))


def feature(name: str) -> st.SearchStrategy[float]:
    """Return anything that the feature's bounds allow; zero, which also stands for what is masked, often."""
    spec, quiet = FEATURES[name], getattr(QUIET, name)
    if isinstance(quiet, bool):
        return st.booleans()
    if isinstance(quiet, int):
        return st.just(0) | st.integers(0, int(spec.high))
    return st.just(0.0) | st.floats(0.0, spec.high)


observations = st.builds(Observation, **{name: feature(name) for name in FEATURES})


def outcome(decision: Decision, observation: Observation, stream: int, share: float, elapsed_ms: float) -> Round:
    """Return a round that such a decision might end in."""
    accepted = math.floor(share * decision.window)
    cloud = 8 if decision.window == 0 else 0
    return a_round(
        stream=stream,
        end_ms=elapsed_ms,
        window=decision.window,
        drafted=decision.window,
        accepted=accepted,
        cloud_tokens=cloud,
        committed=cloud or accepted + 1,
        batch_size=observation.batch_size,
    )


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=25)
@given(data=st.data(), max_window=st.integers(1, 16))
def test_every_answer_is_a_window_in_range(spec: str, data: st.DataObject, max_window: int) -> None:
    controller = make_controller(spec, max_window)
    for step in range(8):
        stream = step % 3
        if step < 2:  # the third is met without a word, as in the window map
            controller.begin(stream, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1)))
        seen = data.draw(observations | st.just(MASKED))
        decision = controller.decide(seen, stream)
        assert isinstance(decision.window, int) and 0 <= decision.window <= max_window
        assert decision.stop_threshold is None or 0.0 < decision.stop_threshold < 1.0
        share, elapsed_ms = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1e5))
        controller.record(outcome(decision, seen, stream, share, elapsed_ms))
    for stream in range(5):
        controller.forget(stream)
    controller.record(a_round(stream=99))


def size_of(thing: object) -> int:
    """Return how many values an object holds, all the way down."""
    if isinstance(thing, dict):
        return sum(1 + size_of(value) for value in thing.values())
    if isinstance(thing, list | tuple | set):
        return sum(1 + size_of(value) for value in thing)
    slots = [getattr(thing, name) for name in getattr(thing, "__slots__", ())]
    return size_of(slots) + size_of(getattr(thing, "__dict__", {})) if not isinstance(thing, type) else 0


@pytest.mark.parametrize("spec", SPECS)
def test_streams_that_have_ended_leave_no_state(spec: str) -> None:
    """What is kept by device, target and load stays; 800 more streams add to it less than a value each."""
    controller, sizes = make_controller(spec, 12), []
    for stream in range(1200):
        controller.begin(stream, stream % 4, stream % 2)
        for batch_size in (1, 5, 20, 50, 200):
            seen = observed(batch_size=batch_size, iteration_tokens=5 * batch_size)
            controller.record(outcome(controller.decide(seen, stream), seen, stream, 0.7, 80.0))
        controller.forget(stream)
        if stream in (399, 1199):
            sizes.append(size_of(controller))
    assert sizes[1] - sizes[0] < 300


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_story_gets_the_same_answers(spec: str) -> None:
    def answers() -> list[Decision]:
        controller, given = make_controller(spec, 12), []
        for step in range(200):
            seen = observed(batch_size=1 + step % 40, last_accepted=step % 5, smoothed_rtt_ms=5.0 + step % 90)
            given.append(controller.decide(seen, step % 7))
            controller.record(outcome(given[-1], seen, step % 7, 0.6, 50.0 + step % 30))
        return given

    assert answers() == answers()
