"""A request's life at its edge, from prompt to last token: the twin of `dsd_gym/simulator.py`, on real models.

The steps have the simulator's names and order, observations are made by its code (`dsd_gym.observation`), and rounds
mean what they mean there. What a simulation cannot meet is told here too:

* `drafted` may be less than the decision `window`: nothing is drafted beyond `max_new_tokens`, the longest window that
  the target takes, a guessed end token, or the token at which confidence falls under the decision's `stop_threshold`.
* A lost connection interrupts a round. Its time, its bytes and what it had committed belong to the next one, where the
  token that a new stream begins with counts as decoded in the cloud.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

from dsd_gym.controller import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round
from dsd_gym.stream_view import StreamView
from runtime.edge.connection import Connection
from runtime.edge.device import Device
from runtime.edge.draft import Guess
from runtime.messages import Disconnected, Finish, Opening, Refused, Verdict
from runtime.sampling import MAX_TOKEN_BYTES

TOKEN_BYTES = 4
"""What a drafted token's id adds to a message; where tokens are sampled, its distribution comes on top."""


class Progress(NamedTuple):
    """Newly committed tokens, and the round that committed them; None with the first token and after a fault."""

    tokens: tuple[int, ...]
    finish: Finish
    round: Round | None


class Request:
    """One request's state and story. `stream` is its number at this edge."""

    def __init__(
        self,
        stream: int,
        opening: Opening,
        device: Device,
        connection: Connection,
        controller: Controller,
        clock: Callable[[], float],
    ) -> None:
        self.stream, self.opening = stream, opening
        self.device, self.connection, self._controller, self._clock = device, connection, controller, clock
        model = device.draft.model
        ends = frozenset() if opening.ignore_eos else model.eos_tokens
        self.draft = device.draft.new_state(opening.prompt, opening.sampling, ends)
        self.view = StreamView(device.estimate, 0.0, 0.0)
        self.finish: Finish = ""
        self.arrival_ms = self.round_start_ms = self.decided_ms = clock()
        self.first_token_ms: float | None = None
        self.observation: Observation | None = None
        """What the last decision was made on."""
        self.confidences: list[float] = []
        """The draft's, for each token that the last round drafted."""
        self.cloud_mode = False
        self._unread_tokens = 0
        self._guess: Guess | None = None
        self._reading: asyncio.Future[None] | None = None
        self._decoded: list[Verdict] = []
        self._shown = 0

    @property
    def committed(self) -> list[int]:
        """Return the output tokens so far."""
        return self.draft.context[self.draft.prompt_tokens :]

    @property
    def finished(self) -> bool:
        """Return whether the edge has every output token."""
        return self.finish != ""

    async def life(self) -> AsyncGenerator[Progress, None]:
        """Live through the request: the first token, then round after round, to the end."""
        await self._first_token()
        yield self._progress(None)
        while not self.finished:
            yield self._progress(await self._round())

    async def close(self) -> None:
        """Let go of the target, wherever the request stands."""
        if self._reading:
            self._reading.cancel()
        await self.connection.close()

    async def _round(self) -> Round | None:
        """Ask, and speculate or let the cloud decode; None where the connection was lost and is there again."""
        try:
            observation = await self._observe()
            decision = self._ask(observation)
            if decision.window:
                return await self._speculate(*decision)
            return await self._decode_in_cloud()
        except Disconnected:
            return await self._reconnect()

    async def _first_token(self) -> None:
        """Send the prompt up; the target prefills and sends the first token, while the draft reads the prompt too."""
        self._reading = self.device.read(self.draft)
        self._received(await self.connection.open(()))
        self.connection.take_bytes()  # the prompt's belong to no round
        self.first_token_ms = self.round_start_ms = self._clock()

    async def _observe(self) -> Observation:
        """Let the draft make its first guess, unless it has tokens to read before it could."""
        device = self.device
        confidence, catch_up_ms = None, 0.0
        if self.cloud_mode or (self._reading and not self._reading.done()):
            catch_up_ms = max(0.0, device.busy_until_ms - self._clock()) + device.reading_ms(self._unread_tokens)
        else:
            self._guess = await device.guess(self.draft)
            confidence = self._guess.confidence
        self.view.draft_ms_per_token = device.draft.draft_ms_per_token
        self.view.uplink_ms_per_token = device.uplink.ms_per_byte * self._token_bytes()
        return self.view.observe(
            self._clock(), confidence, self.cloud_mode, catch_up_ms, len(self.draft.context), self.draft.committed
        )

    def _ask(self, observation: Observation) -> Decision:
        self.decided_ms, self.observation = self._clock(), observation
        return self._controller.decide(observation, self.stream)

    async def _speculate(self, window: int, stop_threshold: float | None = None) -> Round:
        """Draft a window, send it, have it verified, receive the verdict."""
        if self.cloud_mode:
            await self._return_to_edge()
            if self.finished:
                return self._end_round(window)
        left = self.opening.max_new_tokens - self.draft.committed
        first, self._guess = self._guess, None
        missed, self._unread_tokens = self._unread_tokens, 0
        length = min(window, max(1, left - 1), self.connection.max_window)
        guesses = await self.device.window(self.draft, first, length, missed, stop_threshold)
        verdict = await self.connection.verify(self.draft.committed, guesses)
        confidences = [guess.confidence for guess in guesses]
        self.view.verified(len(guesses), verdict.accepted, sum(confidences) / len(guesses))
        self._received(verdict, guesses)
        return self._end_round(window, confidences, verdict)

    async def _decode_in_cloud(self) -> Round:
        """Receive one chunk of the target's own decoding, which runs on while the controller is asked."""
        if not self.cloud_mode:  # staying takes no message
            self.cloud_mode, self._unread_tokens, self._guess = True, 0, None
            await self.connection.decode(self.draft.committed)
        await self._receive_chunk()
        self.view.decoded_in_cloud()
        return self._end_round(0)

    async def _return_to_edge(self) -> None:
        """Stop the target and take in what it decoded until the stop arrived; the draft has it still to read."""
        await self.connection.stop()
        while not await self._receive_chunk():
            pass
        self.cloud_mode = False

    async def _receive_chunk(self) -> bool:
        """Take in one message of cloud decoding and return whether it is the last."""
        verdict = await self.connection.chunk()
        self._received(verdict)
        self._unread_tokens += len(verdict.tokens)
        self._decoded.append(verdict)
        return verdict.final

    async def _reconnect(self) -> Round | None:
        """Open another stream with what is committed; return a round only if its first token is the last."""
        verdict = await self.connection.open(self.committed)
        self.device.reconnects += 1
        self.cloud_mode, self._guess, self._unread_tokens = False, None, 0
        self._received(verdict)
        self.view.decoded_in_cloud()
        self._decoded.append(verdict)
        return self._end_round(0) if self.finished else None

    # --- what a round leaves behind --------------------------------------------------------------------------------

    def _received(self, verdict: Verdict, guesses: Sequence[Guess] = ()) -> None:
        if verdict.position != self.draft.committed or not 0 <= verdict.accepted <= len(guesses):
            place = f"{verdict.accepted} accepted at {verdict.position}"
            raise Refused(f"the target lost its place: {place}, not of {len(guesses)} at {self.draft.committed}")
        self.draft.commit(guesses, verdict.accepted, verdict.tokens)
        self.finish = verdict.finish
        self.view.heard(verdict.report, self._clock())

    def _end_round(self, window: int, confidences: Sequence[float] = (), verdict: Verdict | None = None) -> Round:
        """Return the round: `verdict` is on its window, `self._decoded` what the target decoded on its own."""
        decoded, self._decoded = self._decoded, []
        self.confidences = list(confidences)
        cloud_tokens = sum(len(message.tokens) for message in decoded)
        report, now_ms = self.view.report, self._clock()
        round = Round(
            self.stream,
            self.round_start_ms,
            self.decided_ms,
            now_ms,
            window,
            len(confidences),
            verdict.accepted if verdict else 0,
            cloud_tokens,
            cloud_tokens + (verdict.accepted + len(verdict.tokens) if verdict else 0),
            self.device.estimate.last_ms,
            report.queue_wait_ms,
            report.iteration_ms,
            report.batch_size,
            sum(message.externality_ms for message in [*decoded, *([verdict] if verdict else [])]),
            *self.connection.take_bytes(),
        )
        self.round_start_ms = now_ms
        return round

    def _progress(self, round: Round | None) -> Progress:
        tokens = self.draft.context[self.draft.prompt_tokens + self._shown :]
        self._shown += len(tokens)
        return Progress(tuple(tokens), self.finish, round)

    def _token_bytes(self) -> int:
        return TOKEN_BYTES + (0 if self.opening.sampling.greedy else MAX_TOKEN_BYTES)
