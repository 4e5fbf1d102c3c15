"""Videos that can be watched while they are made: appended by a thread and served by one GET."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mutual_forcing.spool import Spool

ROUTE = "/gradio_api/film/"
"""The prefix is the one that Gradio's own proxies forward."""
_POLL_SECONDS = 0.01
_MAX_AGE = 900.0
_MAX_VIDEOS = 64


class Video:
    """One video, appended by one thread and read by any number of viewers.

    It shows what is appended to `film` from now on, after `header` and before what `close` is given.
    """

    def __init__(self, film: Spool, header: bytes = b"") -> None:
        self.id = secrets.token_urlsafe(24).replace(".", "_")
        self.created = time.monotonic()
        self.closed = False
        self.film, self._header, self._tail = film, header, b""
        self._begin = self._end = film.size

    def append(self, data: bytes) -> None:
        """Add bytes to the film; raises OSError when the disk is full."""
        self.film.append(data)
        self._end = self.film.size

    def close(self, tail: bytes = b"") -> None:
        """Mark the video as complete, after `tail`, which the film does not get."""
        self._tail = tail
        self.closed = True

    async def read(self) -> AsyncIterator[bytes]:
        """Yield everything from the start and wait for what is appended later."""
        if self._header:
            yield self._header
        seen = self._begin
        while True:
            # Read the flag first: bytes appended before it was set are then seen below.
            closed, end = self.closed, self._end
            for block in self.film.blocks(seen, end):
                yield block
            if closed:
                break
            if seen == end:
                await asyncio.sleep(_POLL_SECONDS)
            seen = end
        if self._tail:
            yield self._tail


class VideoStore:
    """The videos that can be watched now. Their ids cannot be guessed; old videos are dropped."""

    def __init__(self) -> None:
        self._videos: dict[str, Video] = {}
        self._lock = threading.Lock()

    def new(self, film: Spool | None = None, header: bytes = b"") -> Video:
        """Add a video that shows what is appended to `film` (None: to one of its own), and return it."""
        video = Video(film or Spool(), header)
        now = time.monotonic()
        with self._lock:
            recent = [v for v in self._videos.values() if now - v.created < _MAX_AGE]
            self._videos = {v.id: v for v in [*recent[-_MAX_VIDEOS + 1 :], video]}
        return video

    def drop(self, video_id: str) -> None:
        """Remove a video; viewers who have begun to read it read on."""
        with self._lock:
            self._videos.pop(video_id, None)

    def route(self) -> Route:
        """Return the route for the application around the page."""
        return Route(ROUTE + "{video_id}", self._serve, methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        if not await signed_in(request):
            return PlainTextResponse("Sign in first.", status_code=401)
        video = self._videos.get(request.path_params["video_id"])
        if video is None:
            return PlainTextResponse("There is no such film.", status_code=404)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(video.read(), media_type="video/mp4", headers=headers)


async def signed_in(request: Request) -> bool:
    """Return whether the page has no password or the visitor gave it: what Gradio says of the cookies."""
    transport = httpx.ASGITransport(request.app)
    headers = {"cookie": request.headers.get("cookie", "")}
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as page:
        return (await page.get("/gradio_api/login_check", headers=headers)).is_success
