"""The target's engine: iteration-level continuous batching over sessions, `dsd_gym/target/` on a real model.

One thread runs one pass after another and sleeps while there is nothing to do. A pass takes the windows that wait, a
token of each stream that decodes in the cloud, and prefill chunks, in one `LanguageModel.forward`. Any thread may give
commands; none of them waits for a pass.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import TypeAlias

from dsd_gym.latency import externality_ms
from dsd_gym.observation import Report
from runtime.messages import Description, Disconnected, Opening, Refused, Verdict
from runtime.model import LanguageModel
from runtime.sampling import decode as decode_probs
from runtime.target.batch import Part
from runtime.target.cost_curve import CostCurve
from runtime.target.limits import Limits, check_opening, check_tokens
from runtime.target.outcomes import Iteration, PassFailed, Result, iteration, outcomes
from runtime.target.session import Deliver, Session, State
from runtime.target.sessions import Sessions
from runtime.verify import Outcome

__all__ = ["Engine", "Iteration", "PassFailed"]

Message: TypeAlias = tuple[Session, Verdict | Exception]

_log = logging.getLogger(__name__)


class Engine:
    """One target model and its sessions."""

    def __init__(self, model: LanguageModel, tokenizer_fingerprint: str, limits: Limits) -> None:
        self.limits = limits.within(model.max_context_tokens)
        self.observer: Callable[[Iteration], None] | None = None
        """Called in the engine's thread after each pass; must not block."""
        self.failed_passes = self.failures_in_a_row = 0
        self.running = False
        self._model, self._tokenizer = model, tokenizer_fingerprint
        self._sessions = Sessions(self.limits, model.new_sequence)
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._curve = CostCurve([1], [0.0])

    def start(self) -> None:
        """Time a few passes, and begin to serve; an engine that serves already is left alone."""
        if self.running:
            return
        self._curve = CostCurve.timed(self._model, self.limits.max_batch_tokens)
        self.running = True
        self._thread = threading.Thread(target=self._serve, name="target engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the pass in progress; every session that is left is `Disconnected`."""
        with self._wake:
            self.running = False
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def describe(self) -> Description:
        """Return what the target says of itself."""
        model, limits = self._model, self.limits
        context = min(limits.max_context_tokens, limits.kv_budget_tokens)
        return Description(model.name, self._tokenizer, model.parameters, limits.max_window, context)

    @property
    def sessions(self) -> int:
        """Return the number of sessions, waiting ones included."""
        return len(self._sessions)

    @property
    def waiting(self) -> int:
        """Return the number of sessions that wait for KV memory."""
        return self._sessions.memory.waiting

    @property
    def kv_tokens_used(self) -> int:
        """Return the tokens of KV memory that are reserved."""
        return self._sessions.memory.used_tokens

    @property
    def kv_budget_tokens(self) -> int:
        """Return the tokens of KV memory that there are."""
        return self._sessions.memory.budget_tokens

    # --- what the edges ask for -----------------------------------------------------------------------------------

    def open(self, opening: Opening, deliver: Deliver) -> Session:
        """Queue a request for prefill; what comes of it is told to `deliver`, in the engine's thread.

        The first verdict brings one token. An exception that is delivered has ended the session.

        Raises:
            Refused: it could never be served.
            Busy: too many wait for memory already.
            Disconnected: the engine does not run.
        """
        check_opening(opening, self.limits, self._model.vocab_size)
        session = Session(opening, deliver, _now_ms())
        with self._wake:
            self._check_running()
            self._sessions.enter(session, session.arrived_ms)
            self._wake.notify()
        return session

    def verify(self, session: Session, position: int, tokens: Items[int], draft_probs: bytes) -> None:
        """Queue a window for the next pass; Refused where the session does not wait for this one.

        Like `decode`, `Disconnected` where the engine does not run.
        """
        if len(tokens) > self.limits.max_window:
            raise Refused(f"a window of {len(tokens)} tokens; the target takes up to {self.limits.max_window}")
        check_tokens(tokens, self._model.vocab_size)
        probs = None
        if not session.opening.sampling.greedy:
            probs = decode_probs(draft_probs, len(tokens), self._model.vocab_size)
        with self._wake:
            self._check_turn(session, position)
            session.take_window(tokens, probs, _now_ms())
            self._sessions.queue(session)
            self._wake.notify()

    def decode(self, session: Session, position: int) -> None:
        """Let the target decode this stream on its own, until `stop_decoding` or its last token."""
        with self._wake:
            self._check_turn(session, position)
            session.start_decoding()
            self._sessions.queue(session)
            self._wake.notify()

    def stop_decoding(self, session: Session) -> None:
        """End cloud decoding after the pass in progress; a stream that has ended already is left alone."""
        with self._wake:
            session.stopping = True

    def close(self, session: Session) -> None:
        """Forget a session; its memory is free at once, or after the pass that it is in."""
        with self._wake:
            self._sessions.end(session, _now_ms())
            self._wake.notify()

    def _check_turn(self, session: Session, position: int) -> None:
        self._check_running()  # sessions that a stop has ended are out of turn through no fault of the edge's
        session.check_turn(position)

    def _check_running(self) -> None:
        if not self.running:
            raise Disconnected("the target is not serving")

    # --- one pass after another -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while self._one_pass():
                pass
        finally:
            self._abandon()

    def _one_pass(self) -> bool:
        """Wait for work and do a pass of it; False when the engine has been stopped.

        The batch, and with it the caches of sessions that end, lives no longer than this call.
        """
        batch = self._next_batch()
        if not batch:
            return False
        started_ms = _now_ms()
        results = self._compute(batch)
        passed = iteration(batch, results, started_ms, _now_ms())
        with self._wake:
            messages = self._conclude(batch, results, passed)
        for session, message in messages:
            self._deliver(session, message)
        self._observe(passed)
        return True

    def _next_batch(self) -> list[Part]:
        """Sleep until there is something to do; an empty batch when the engine has been stopped."""
        with self._wake:
            while self.running:
                if batch := self._sessions.next_batch(_now_ms()):
                    return batch
                self._wake.wait()
        return []

    def _compute(self, batch: list[Part]) -> list[Result]:
        try:
            parts = [(part.sequence, part.tokens) for part in batch]
            results = outcomes(batch, self._model.forward(parts, [part.rows for part in batch]))
        except Exception:  # out of memory, or a bug: it ends who was in this pass, and nobody else
            # As text: a traceback that a log handler kept would keep the caches of this pass.
            _log.error("a pass of %d sessions failed\n%s", len(batch), traceback.format_exc())
            self.failed_passes += 1
            self.failures_in_a_row += 1
            return [PassFailed("the pass failed at the target") for _ in batch]
        self.failures_in_a_row = 0
        return results

    def _conclude(self, batch: list[Part], results: list[Result], passed: Iteration) -> list[Message]:
        """Move the sessions of a pass on, and return what there is to tell."""
        curve, tokens, others = self._curve, passed.tokens, self._sessions.held_up(batch) - 1
        report = Report(0.0, passed.iteration_ms, passed.batch_size, tokens, curve.marginal(tokens), curve.one_token_ms)
        messages: list[Message] = []
        for part, result in zip(batch, results, strict=True):
            session = part.session
            self._sessions.alight(session, _now_ms())
            if session.state is State.ENDED or result is None:
                continue
            if isinstance(result, Refused):
                self._sessions.end(session, _now_ms())
                messages.append((session, result))
                continue
            price_ms = externality_ms(curve.added(tokens, len(part.tokens)), others)
            if verdict := self._advance(part, result, report, price_ms):
                messages.append((session, verdict))
        self._sessions.admit()
        return messages

    def _advance(self, part: Part, outcome: Outcome, report: Report, price_ms: float) -> Verdict | None:
        """Commit what a session has won, and return what it is told, if anything yet."""
        session, ends = part.session, self._model.eos_tokens
        if part.purpose is State.DECODING:
            session.externality_ms += price_ms
            verdict = session.decoded(outcome.token, ends, report, self.limits.chunk_tokens)
        else:
            verdict = session.answer(*outcome, ends, report, _now_ms())
            if part.purpose is State.VERIFYING:
                verdict = verdict._replace(externality_ms=price_ms)
        if verdict and verdict.final:
            self._sessions.rest(session)
            if verdict.finish:
                self._sessions.end(session, _now_ms())
        return verdict

    def _deliver(self, session: Session, message: Verdict | Exception) -> None:
        try:
            session.deliver(message)
        except Exception:  # whoever listened has gone
            _log.warning("a message could not be delivered\n%s", traceback.format_exc())
            self.close(session)

    def _observe(self, passed: Iteration) -> None:
        try:
            if self.observer:
                self.observer(passed)
        except Exception:
            _log.error("the observer failed\n%s", traceback.format_exc())

    def _abandon(self) -> None:
        """Disconnect everybody."""
        with self._wake:
            self.running = False
            left = self._sessions.end_all(_now_ms())
        for session in left:
            self._deliver(session, Disconnected("the target has stopped"))


def _now_ms() -> float:
    return time.monotonic() * 1000.0
