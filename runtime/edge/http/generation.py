"""The choices of a request, generated beside each other, as pieces of text in the order in which they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple, Protocol, cast

from transformers import PreTrainedTokenizerBase

from runtime.edge.http.errors import ApiError, busy
from runtime.edge.http.responses import Piece
from runtime.edge.text import Detokeniser
from runtime.messages import Disconnected, Finish, Sampling

BUSY_RETRY_MS = 1000.0


class Progress(Protocol):
    """Tokens that were committed together."""

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens."""

    @property
    def finish(self) -> Finish:
        """Why they are the last; empty where they are not."""


class Generator(Protocol):
    """What is asked of an `Edge`."""

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, max_new_tokens: int, ignore_eos: bool = False
    ) -> AsyncIterator[Progress]:
        """Generate after a prompt; closing the iterator ends the request."""


class Job(NamedTuple):
    """One choice to generate."""

    prompt: Sequence[int]
    sampling: Sampling
    max_new_tokens: int
    ignore_eos: bool
    stops: Sequence[str]
    continues: bool = False
    """Whether the text goes on where the prompt ends; an answer begins anew."""


class Desk:
    """An edge with a bound on how many choices it generates at once."""

    def __init__(self, edge: Generator, tokenizer: PreTrainedTokenizerBase, most: int) -> None:
        self.active = 0
        """Choices being generated."""
        self._edge = edge
        self._tokenizer = tokenizer
        self._most = most

    @asynccontextmanager
    async def generate(self, jobs: Sequence[Job]) -> AsyncIterator[AsyncIterator[Piece]]:
        """Give the pieces of all jobs; what still runs at the end of the block is cancelled.

        Raises:
            ApiError: 400 where the jobs are more than ever fit, 429 where they are too many for now.
        """
        if len(jobs) > self._most:
            message = f"prompt: {len(jobs)} prompts, where {self._most} are served at once."
            raise ApiError(400, message, param="prompt", code="invalid_value")
        if self.active + len(jobs) > self._most:
            raise busy(f"{self.active} requests are being served, of {self._most} at most.", BUSY_RETRY_MS)
        queue: asyncio.Queue[Piece | Exception] = asyncio.Queue()  # a slow reader does not hold the target up
        tasks = [asyncio.create_task(self._run(index, job, queue.put_nowait)) for index, job in enumerate(jobs)]
        self.active += len(tasks)
        for task in tasks:  # not in the task itself: one that is cancelled before its first step never runs
            task.add_done_callback(self._ended)
        try:
            yield _pieces(queue, len(jobs))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self.active -= 1

    async def _run(self, index: int, job: Job, arrived: Callable[[Piece | Exception], None]) -> None:
        """Tell how a job goes, whatever becomes of it."""
        try:
            await self._generate(index, job, arrived)
        except asyncio.CancelledError:
            arrived(Disconnected("the generation was given up"))
            raise
        except Exception as error:
            arrived(error)

    async def _generate(self, index: int, job: Job, arrived: Callable[[Piece], None]) -> None:
        """Pass text on as it comes; the end only once the target is let go, for nobody waits for this task then."""
        text = Detokeniser(self._tokenizer, job.stops, job.prompt if job.continues else ())
        finish: Finish = ""
        rounds = self._edge.generate(job.prompt, job.sampling, job.max_new_tokens, job.ignore_eos)
        async with aclosing(cast(AsyncGenerator[Progress], rounds)):
            async for progress in rounds:
                new = text.push(progress.tokens) + (text.flush() if progress.finish else "")
                arrived(Piece(index, new, "", text.count))
                finish = "stop" if text.stopped else progress.finish
                if finish:
                    break
        if not finish:
            raise Disconnected("the generation ended early")
        arrived(Piece(index, "", finish, text.count))


async def _pieces(queue: asyncio.Queue[Piece | Exception], choices: int) -> AsyncIterator[Piece]:
    """Yield what comes until all choices are finished."""
    while choices:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        choices -= bool(item.finish)
        yield item
