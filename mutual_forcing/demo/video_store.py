"""Videos that can be watched while they are made: appended by a thread and served by one GET."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

ROUTE = "/gradio_api/film/"
"""The prefix is the one that Gradio's own proxies forward."""
_POLL_SECONDS = 0.01
_MAX_AGE = 900.0
_MAX_VIDEOS = 64


class Video:
    """The bytes of one video, appended by one thread and read by any number of viewers."""

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(24).replace(".", "_")
        self.created = time.monotonic()
        self.closed = False
        self._parts: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Add bytes for the viewers."""
        if data:
            self._parts.append(data)

    def close(self) -> None:
        """Mark the video as complete."""
        self.closed = True

    async def read(self) -> AsyncIterator[bytes]:
        """Yield everything from the start and wait for what is appended later."""
        index = 0
        while True:
            # Read the flag first: bytes appended before it was set are then seen below.
            closed = self.closed
            parts = self._parts[index:]
            index += len(parts)
            for part in parts:
                yield part
            if closed:
                return
            if not parts:
                await asyncio.sleep(_POLL_SECONDS)


class VideoStore:
    """The videos that can be watched now. Their ids cannot be guessed; old videos are dropped."""

    def __init__(self) -> None:
        self._videos: dict[str, Video] = {}
        self._lock = threading.Lock()

    def new(self) -> Video:
        """Add an empty video and return it."""
        video = Video()
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
        """Return the route to give to `launch(app_kwargs={"routes": [...]})`."""
        return Route(ROUTE + "{video_id}", self._serve, methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        if not signed_in(request):
            return PlainTextResponse("Sign in first.", status_code=401)
        video = self._videos.get(request.path_params["video_id"])
        if video is None:
            return PlainTextResponse("There is no such film.", status_code=404)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(video.read(), media_type="video/mp4", headers=headers)


def signed_in(request: Request) -> bool:
    """Return whether the page has no password or the visitor gave it. Gradio checks only its own routes."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    tokens = [request.cookies.get(name) for name in names]
    return any(token is not None and app.tokens.get(token) is not None for token in tokens)
