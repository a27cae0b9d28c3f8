"""One answer on its way out, whole or as a stream of events, until done or the client is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from runtime.edge.http.errors import as_api_error
from runtime.edge.http.generation import Desk, Job
from runtime.edge.http.responses import Piece, Shape

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
]


class Answer:
    """The response to a generation, whole or streamed: an ASGI application.

    Not a response of Starlette, which cancels at every `await` once the client is gone, the farewell to the target too.
    """

    def __init__(self, desk: Desk, jobs: Sequence[Job], shape: Shape, stream: bool) -> None:
        self._desk = desk
        self._jobs = jobs
        self._shape = shape
        self._send_pieces = self._stream if stream else self._whole
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client goes away first."""
        work = asyncio.create_task(self._answer(scope, receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._desk.generate(self._jobs) as pieces:
                await self._send_pieces(pieces, scope, receive, send)
        except Exception as error:
            answer = as_api_error(error)
            if self._started:
                await send({"type": "http.response.body", "body": _event(answer.body)})
            else:
                await answer.response()(scope, receive, send)

    async def _whole(self, pieces: AsyncIterator[Piece], scope: Scope, receive: Receive, send: Send) -> None:
        choices = [Piece(index, "", "", 0) for index in range(len(self._jobs))]
        async for piece in pieces:
            choices[piece.choice] = piece._replace(text=choices[piece.choice].text + piece.text)
        await JSONResponse(self._shape.whole(choices))(scope, receive, send)

    async def _stream(self, pieces: AsyncIterator[Piece], scope: Scope, receive: Receive, send: Send) -> None:
        choices: dict[int, Piece] = {}
        async for piece in pieces:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            for chunk in self._shape.chunks(piece, first=piece.choice not in choices):
                await send({"type": "http.response.body", "body": _event(chunk), "more_body": True})
            choices[piece.choice] = piece
        rest = b"".join(_event(chunk) for chunk in self._shape.end(list(choices.values())))
        await send({"type": "http.response.body", "body": rest + b"data: [DONE]\n\n"})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(data: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
