"""ASGI middleware around the page: sizes of requests, safe headers, and an end for endless responses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_JSON = 2**20
"""Bytes of a request without a file. Texts have 2000 characters, settings 64 KB."""
_FORM = 2**16
"""Bytes of an upload besides its file."""


class SafeHeaders:
    """Keeps browsers from guessing that an upload is a page or a script."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, sent)


class BodyLimit:
    """Answers 413 to requests that are too large, however many files they bring.

    Gradio's own limit is for each file of an upload, and there is none for JSON.
    """

    def __init__(self, app: ASGIApp, upload: int) -> None:
        """Wrap `app`; `upload` is the largest file in bytes."""
        self.app, self._upload = app, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most, seen, started = self._most(scope), 0, False

        async def received() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large()
            return message

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            length = Headers(scope=scope).get("content-length", "")
            if length.isdigit() and int(length) > most:
                raise _too_large()
            await self.app(scope, received, sent)
        except (
            HTTPException
        ) as error:  # Gradio's routes answer with it; what is around them lets it by.
            if started:
                raise
            response = PlainTextResponse(error.detail, error.status_code)
            await response(scope, receive, send)

    def _most(self, scope: Scope) -> int:
        kind = Headers(scope=scope).get("content-type", "")
        # MCP clients may send a file as text.
        files = kind.startswith("multipart/") or scope["path"].startswith("/gradio_api/mcp")
        return self._upload + _FORM if files else _MOST_JSON


def _too_large() -> HTTPException:
    return HTTPException(413, "The request is too large.")


class OpenResponses:
    """The responses without a known end: films that are being made, messages and heartbeats of pages.

    A server waits for its responses before it ends, and these would not end by themselves.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task] = set()
        self._ended = False

    def end(self) -> None:
        """End all of them now. Called in the server's event loop."""
        self._ended = True
        for task in self._tasks:
            task.cancel()

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` serve a connection, which `end` may cut short."""
        task, complete = asyncio.current_task(), False
        assert task is not None

        async def sent(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                if not any(name == b"content-length" for name, _ in message["headers"]):
                    self._tasks.add(task)
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await app(scope, receive, sent)
        except asyncio.CancelledError:
            if not (self._ended and task in self._tasks):
                raise
            if not complete:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._tasks.discard(task)


class EndOpenResponses:
    """Registers the responses of an application with OpenResponses."""

    def __init__(self, app: ASGIApp, responses: OpenResponses) -> None:
        self.app, self._responses = app, responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await self._responses.serve(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)
