"""ASGI middleware around the page: sizes of requests, room on disk, passwords, safe headers, refusals in one
sentence, and an end for endless responses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse

from .addresses import address_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
_MOST_JSON = 2**20
"""Bytes of a request without a file. Texts have 2000 characters, settings 64 KB."""
_FORM = 2**16
"""Bytes of an upload besides its file."""


_FILES = ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/stream/")
_UPLOAD = "/gradio_api/upload"
_LOGIN = "/login"
_TRIES, _TRY_SECONDS = 5, 60.0
"""Wrong passwords that an address may send within so many seconds."""
_MOST_ADDRESSES = 10_000
_LOOK_SECONDS = 5.0
"""How old the size of the uploads' folder may be."""
_WRONG = "The request cannot be read: a value has the wrong type."
_FAILED = "The request could not be answered."


class SafeHeaders:
    """Keeps browsers from guessing that an upload is a page or a script, and from telling other sites the
    addresses of films. With a password nothing is cached, and no other site shows the page in a frame.
    X-Replica names the process, so that a page knows when another one answers it (static/replica.js).
    """

    def __init__(self, app: ASGIApp, private: bool = False, replica: str = "") -> None:
        """Wrap `app`; `private`: there is a password; `replica`: the process's name."""
        self.app, self._private, self._replica = app, private, replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["X-Replica"] = self._replica
                if self._private:
                    headers["Content-Security-Policy"] = "frame-ancestors 'self'"
                    if scope["path"].startswith(_FILES):
                        headers["Cache-Control"] = "private, no-store"
            await send(message)

        await self.app(scope, receive, sent)


class OneSentence:
    """Answers what cannot be read or fails with one sentence and 400, as JSON: {"error": "..."}.

    Gradio answers 500 to whatever an event refuses, FastAPI tells how it is built, and what its own answer
    cannot hold (NaN) ends in a bare 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal, started, body = 0, False, b""

        async def sent(message: Message) -> None:
            nonlocal refusal, started, body
            if message["type"] == "http.response.start" and message["status"] in (422, 500):
                refusal = message["status"]
            elif refusal and message["type"] == "http.response.body":
                body += message.get("body", b"")
            else:
                started = True
                await send(message)

        try:
            await self.app(scope, receive, sent)
        except HTTPException:
            raise
        except Exception as error:
            if started:
                raise
            # Without its traceback: strangers could fill the log with them.
            log.warning("A request could not be answered (%s).", type(error).__name__)
            log.debug("Where:", exc_info=error)
            refusal = refusal or 500
        if refusal:
            told = _sentence(body) or (_WRONG if refusal == 422 else _FAILED)
            await JSONResponse({"error": told}, 400)(scope, receive, send)


def _sentence(body: bytes) -> str:
    """Return the sentence of an event that refused; empty for other answers."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    told = answer.get("error") if isinstance(answer, dict) else None
    return told if isinstance(told, str) else ""


class SameOrigin:
    """Refuses what other sites ask in the name of a visitor who has given the password to this one.

    A browser names the site that a script or a form comes from. Behind a proxy this page's own name is the
    one in X-Forwarded-Host, which no other site's script can send without being refused first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers({})
        origin = headers.get("origin", "")
        own = {headers.get("host", ""), headers.get("x-forwarded-host", "")} - {""}
        if origin and origin.partition("://")[2] not in own:
            response = PlainTextResponse("This page is not used from other sites.", 403)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


class OwnLogout:
    """Signs out one browser. Gradio would sign out all that share the name, and here all visitors do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"] == "/logout":
            # Gradio forgets the token of the cookie that browsers send by HTTPS only.
            headers = [
                (name, value + b"; " + value.replace(b"access-token-unsecure-", b"access-token-"))
                if name == b"cookie"
                else (name, value)
                for name, value in scope["headers"]
            ]
            scope = {**scope, "query_string": b"all_session=false", "headers": headers}
        await self.app(scope, receive, send)


class LoginThrottle:
    """Answers 429 to an address that sends one wrong password after the other."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        """Wrap `app`; `clock` tells seconds."""
        self.app, self._clock = app, clock
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != _LOGIN:
            await self.app(scope, receive, send)
            return
        address, now = _network(address_of(HTTPConnection(scope))), self._clock()
        tries = self._wrong.setdefault(address, deque(maxlen=_TRIES))
        if len(tries) == _TRIES and now - tries[0] < _TRY_SECONDS:
            wait = int(_TRY_SECONDS - (now - tries[0])) + 1
            text = f"Too many wrong passwords: try again in {wait} seconds."
            response = PlainTextResponse(text, 429, headers={"Retry-After": str(wait)})
            await response(scope, receive, send)
            return
        # Counted before the answer is known: tries that are sent at the same time count too.
        tries.append(now)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self._wrong.pop(address, None)
            await send(message)

        await self.app(scope, receive, sent)
        while len(self._wrong) > _MOST_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]


def _network(address: str) -> str:
    """An address as it is counted: one visitor may have 2^64 of IPv6."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return address
    if number.version == 4:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


class DiskQuota:
    """Answers 507 to uploads while the folder of uploads and films is full.

    Gradio empties it of what is an hour old.
    """

    def __init__(self, app: ASGIApp, folder: Path, most: int) -> None:
        """Wrap `app`; `folder` may hold `most` bytes."""
        self.app, self._folder, self._most = app, folder, most
        self._seen, self._size = -_LOOK_SECONDS, 0
        self._coming = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] != _UPLOAD or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if await asyncio.to_thread(self._used) + self._coming > self._most:
            text = "The server has no room for uploads now: try again in some minutes."
            await PlainTextResponse(text, 507)(scope, receive, send)
            return
        brought = 0

        async def received() -> Message:
            nonlocal brought
            message = await receive()
            brought += len(message.get("body", b""))
            self._coming += len(message.get("body", b""))
            return message

        try:
            await self.app(scope, received, send)
        finally:
            # From now on the folder shows it.
            self._coming -= brought
            self._size += brought

    def _used(self) -> int:
        if time.monotonic() - self._seen > _LOOK_SECONDS:
            self._seen, self._size = time.monotonic(), folder_size(self._folder)
        return self._size


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder; 0 if there is none. Links are not followed."""
    total, folders = 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


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
