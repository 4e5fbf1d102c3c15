"""Films while they are made: bytes grow on one side and are served by one GET on the other."""

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
"""Under the prefix that Gradio's own proxies forward."""
_POLL_SECONDS = 0.01
_KEEP_SECONDS = 900.0
_KEEP_FILMS = 64


class Film:
    """Bytes of one film, appended by one thread and read by any number of viewers."""

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
        """Say that nothing more will come."""
        self.closed = True

    async def read(self) -> AsyncIterator[bytes]:
        """Yield everything from the start, waiting for what is still to come."""
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


class FilmShelf:
    """The films that can be watched now. Their ids cannot be guessed; old ones are dropped."""

    def __init__(self) -> None:
        self._films: dict[str, Film] = {}
        self._lock = threading.Lock()

    def new(self) -> Film:
        """Start a film."""
        film = Film()
        now = time.monotonic()
        with self._lock:
            recent = [f for f in self._films.values() if now - f.created < _KEEP_SECONDS]
            self._films = {f.id: f for f in [*recent[-_KEEP_FILMS + 1 :], film]}
        return film

    def drop(self, film_id: str) -> None:
        """Forget a film; who reads it already reads on."""
        with self._lock:
            self._films.pop(film_id, None)

    def route(self) -> Route:
        """Return the route to give to `launch(app_kwargs={"routes": [...]})`."""
        return Route(ROUTE + "{film_id}", self._serve, methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        if not signed_in(request):
            return PlainTextResponse("Sign in first.", status_code=401)
        film = self._films.get(request.path_params["film_id"])
        if film is None:
            return PlainTextResponse("There is no such film.", status_code=404)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(film.read(), media_type="video/mp4", headers=headers)


def signed_in(request: Request) -> bool:
    """Whether the page has no password or this visitor gave it: Gradio does not ask on our routes."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    tokens = [request.cookies.get(name) for name in names]
    return any(token is not None and app.tokens.get(token) is not None for token in tokens)
