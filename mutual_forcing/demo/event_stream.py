"""The one stream by which an open page hears of all that it asked for."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from .asgi import Answer, Replay, json_object, read_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_JOIN, _DATA, _CANCEL = (f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "cancel"))
_COMPLETED = re.compile(rb'"msg": ?"process_completed"')
_CLOSE = re.compile(rb'"msg": ?"close_stream"')
_HEARTBEAT = b'data: {"msg": "heartbeat"}\n\n'
_HEARTBEAT_SECONDS = 15.0
"""Proxies end a connection on which nothing comes for a minute."""
_MOST_PAGES = 2000
"""Pages that are known at a time; Gradio keeps as many sessions' messages."""


@dataclass(eq=False)
class _OpenPage:
    """A page that a visitor looks at."""

    pending: set[str] = field(default_factory=set)
    """Its requests that have been accepted and are not completed."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while something is pending."""

    def begin(self, event_id: str) -> None:
        self.pending.add(event_id)
        self.asked.set()

    def complete(self, event_id: str) -> None:
        self.pending.discard(event_id)
        if not self.pending:
            self.asked.clear()


class OneEventStream:
    """ASGI middleware: keeps the stream of a page's messages open until the page goes.

    Gradio closes the stream once nothing is pending. Its page, until it has read so, takes the stream for
    open, and a request that is accepted in between is never listened to: somebody who clicks on Talk just
    as the picture has been looked at waits for ever (Gradio 6.31). So pages are not told of the end, and
    what they ask later comes by the same stream. Other clients get Gradio's streams as they are: Python's
    would not exit while one is open.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._pages: OrderedDict[str, _OpenPage] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope.get("path", "").rstrip("/")
        if path == _JOIN and Headers(scope=scope).get("x-gradio-user") == "app":
            body, answer = await read_body(receive), Answer(send)
            await self.app(scope, Replay(body, receive), answer)
            event_id = json_object(bytes(answer.body)).get("event_id")
            if event_id:
                self._page(str(json_object(body).get("session_hash"))).begin(str(event_id))
        elif path == _CANCEL:
            body, answer = await read_body(receive), Answer(send)
            await self.app(scope, Replay(body, receive), answer)
            cancelled = json_object(body)
            page = self._pages.get(str(cancelled.get("session_hash")))
            if answer.accepted and page:
                page.complete(str(cancelled.get("event_id")))
        elif path == _DATA and (page := self._asking(scope)):
            await self._listen(page, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _page(self, session_id: str) -> _OpenPage:
        page = self._pages.setdefault(session_id, _OpenPage())
        self._pages.move_to_end(session_id)
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return page

    def _asking(self, scope: Scope) -> _OpenPage | None:
        return self._pages.get(HTTPConnection(scope).query_params.get("session_hash", ""))

    async def _listen(self, page: _OpenPage, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve Gradio's streams of a session, one behind the other, as one response."""
        started = closed = False

        async def sent(message: Message) -> None:
            nonlocal started, closed
            if message["type"] == "http.response.start":
                if started:
                    return
                started = True
            elif _CLOSE.search(chunk := message.get("body", b"")):
                closed = True
            elif _COMPLETED.search(chunk):
                for line in chunk.split(b"\n\n"):
                    event = json_object(line.removeprefix(b"data: "))
                    if event.get("msg") == "process_completed":
                        page.complete(str(event.get("event_id")))
            if not closed:
                await send(message)

        while True:
            closed = False
            await self.app(scope, receive, sent)
            if not closed or not await _asked(page, receive, send):
                return


async def _asked(page: _OpenPage, receive: Receive, send: Send) -> bool:
    """Wait until a page asks for something more; return False if it goes away."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(left())
    asking = asyncio.ensure_future(page.asked.wait())
    try:
        while True:
            done, _ = await asyncio.wait(
                {leaving, asking}, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return leaving not in done
            await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
    finally:
        leaving.cancel()
        asking.cancel()
