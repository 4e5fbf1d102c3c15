"""The stream by which a client hears of what it asked for, and the moment at which it ends."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from .asgi import Replay, json_object, read_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_JOIN, _DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
_END = b'"msg":"close_stream"'
SETTLED_SECONDS = 0.3
"""How much later than the end of its stream a client hears that something new is accepted."""
_MOST_SESSIONS = 2000
"""Sessions whose last end is known; Gradio keeps the messages of as many."""


class EventStreamEnds:
    """ASGI middleware: lets a client read that its stream has ended before it hears of what it asked since.

    Gradio ends the stream of a session once nothing is pending. Its clients, until they have read so, take
    the stream for open, and never listen for a request that is accepted in between: somebody who clicked
    on Talk just as a picture had been looked at waited for ever (Gradio 6.31). Answers in that moment are
    therefore held back, while what was asked for is begun; a stream that stayed open instead would take one
    of a browser's six connections. (Where the end takes longer to come than that, the fault is still there.)
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._ended: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope.get("path", "").rstrip("/")
        if path == _DATA:
            session_id = HTTPConnection(scope).query_params.get("session_hash", "")

            async def heard(message: Message) -> None:
                if _END in message.get("body", b""):
                    self._ends(session_id)
                await send(message)

            await self.app(scope, receive, heard)
        elif path == _JOIN and scope.get("method") == "POST":
            body = await read_body(receive)
            session_id = str(json_object(body).get("session_hash"))

            async def answered(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # Asked now: it may have ended while this was being accepted.
                    settled = self._ended.get(session_id, 0.0) + SETTLED_SECONDS
                    await asyncio.sleep(max(0.0, settled - time.monotonic()))
                await send(message)

            await self.app(scope, Replay(body, receive), answered)
        else:
            await self.app(scope, receive, send)

    def _ends(self, session_id: str) -> None:
        self._ended[session_id] = time.monotonic()
        self._ended.move_to_end(session_id)
        while len(self._ended) > _MOST_SESSIONS:
            self._ended.popitem(last=False)
