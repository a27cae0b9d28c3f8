"""What an edge takes in: messages, verdicts, the rounds that they end. `stream_view.StreamView` over records."""

from __future__ import annotations

from typing import Any

from dsd_gym.vector.compiled import acceptance_estimate, at, part, smoothed_rtt, tests_so_far
from dsd_gym.vector.layout import NONE, Cell, FloatArray, Log
from dsd_gym.vector.way import class_of


@part
def received(cell: Cell, number: int, place: int, decoded: bool) -> None:
    """Commit a message's tokens; take in its round trip and its report. `decoded`: by the target on its own."""
    request, message = cell.requests[at(number)], cell.messages[at(place)]
    device = cell.devices[at(request.device)]
    request.committed += message.tokens
    rtt_ms = request.up_ms + message.propagation_ms
    device.smoothed_ms, device.deviation_ms = smoothed_rtt(device.smoothed_ms, device.deviation_ms, rtt_ms)
    device.last_rtt_ms = rtt_ms
    request.queue_wait_ms, request.iteration_ms = message.queue_wait_ms, message.iteration_ms
    request.batch_size, request.iteration_tokens = message.batch_size, message.iteration_tokens
    request.marginal_ms_per_token = message.marginal_ms_per_token
    request.one_token_iteration_ms = message.one_token_iteration_ms
    request.heard_ms = cell.state.now_ms
    if decoded:
        request.decoded += message.tokens
        request.decoded_externality_ms += message.externality_ms
        request.decoded_bytes += message.message_bytes


@part
def tested(cell: Cell, number: int, accepted: int) -> None:
    """Take in a verdict on the window that was drafted."""
    request = cell.requests[at(number)]
    drafted = request.drafted
    request.passed_tests, request.tests = tests_so_far(request.passed_tests, request.tests, drafted, accepted)
    request.last_mean_confidence = request.mean_confidence
    request.last_window, request.last_accepted, request.all_accepted = drafted, accepted, accepted >= drafted
    request.has_last_round, request.has_last_confidence, request.guessed = 1, 1, 0


@part
def team_ms(state: Any) -> float:
    """Return the ms that all requests together have lived so far."""
    return state.taken_ms + state.waited_ms + (state.now_ms - state.counted_ms) * state.live  # type: ignore[no-any-return]


@part
def end_round(cell: Cell, log: Log, deployment: int, number: int, place: int) -> None:
    """Enter the round that ends now, with the verdict at `place` where it had a window; the next one begins."""
    request, entry = cell.requests[at(number)], log.rounds[at(log.counts[0])]
    log.counts[0] += 1
    entry.deployment, entry.stream = deployment, number + cell.state.first_stream
    entry.window = request.window
    entry.start_ms, entry.decided_ms, entry.end_ms = request.round_start_ms, request.decided_ms, cell.state.now_ms
    so_far_ms = team_ms(cell.state)
    entry.team_ms = so_far_ms - request.team_start_ms
    request.round_start_ms, request.team_start_ms = cell.state.now_ms, so_far_ms
    entry.cloud_tokens, entry.committed, entry.drafted, entry.accepted = request.decoded, request.decoded, 0, 0
    entry.externality_ms, entry.downlink_bytes = request.decoded_externality_ms, request.decoded_bytes
    entry.uplink_bytes = request.up_bytes
    if place != NONE:
        verdict = cell.messages[at(place)]
        entry.drafted, entry.accepted = request.drafted, verdict.accepted
        entry.committed += verdict.tokens
        entry.externality_ms += verdict.externality_ms
        entry.downlink_bytes += verdict.message_bytes
    entry.rtt_ms = cell.devices[at(request.device)].last_rtt_ms
    entry.queue_wait_ms, entry.iteration_ms = request.queue_wait_ms, request.iteration_ms
    entry.batch_size = int(request.batch_size)


@part
def observe(cell: Cell, number: int, seen: FloatArray) -> None:
    """Write what the controller is shown, feature by feature as in `Observation`, each in its own unit."""
    state, request = cell.state, cell.requests[at(number)]
    device = cell.devices[at(request.device)]
    own = class_of(cell, device)
    catch_up_ms = 0.0
    if request.guessed == 0:
        catch_up_ms = max(0.0, device.busy_until_ms - state.now_ms)
    if request.cloud_mode:
        catch_up_ms += request.unread * own.prefill_ms
    seen[0] = acceptance_estimate(request.passed_tests, request.tests)
    seen[1], seen[2] = request.last_window, request.last_accepted
    seen[3], seen[4] = request.all_accepted, request.has_last_round
    seen[5], seen[6] = 0.0, request.guessed
    if request.guessed:
        seen[5] = request.guess_confidence
    seen[7], seen[8] = request.last_mean_confidence, request.has_last_confidence
    seen[9], seen[10] = request.cloud_mode, own.draft_ms
    seen[11], seen[12], seen[13] = device.last_rtt_ms, device.smoothed_ms, device.deviation_ms
    seen[14] = own.uplink_ms_per_token
    seen[15], seen[16], seen[17] = request.queue_wait_ms, request.iteration_ms, request.batch_size
    seen[18], seen[19] = request.iteration_tokens, request.marginal_ms_per_token
    seen[20], seen[21] = request.one_token_iteration_ms, state.now_ms - request.heard_ms
    seen[22], seen[23] = catch_up_ms, request.prompt_tokens + request.committed
    seen[24] = request.committed
