"""One process of the engine: streams by name over HTTP, all of them advanced together (shared_model.py).

PUT    /streams/NAME         a request (wire.pack_request); 201, or 503 while too many others run
POST   /streams/NAME/next    what the rest shall be (wire.pack_wishes); the next chunk, or 204 at the end
DELETE /streams/NAME         the chunk in progress is given up, and the stream forgotten
GET    /health               which checkpoint, which process, how many streams

It believes whoever reaches it: it belongs into the network of its pages, where no visitor is.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from ..shared_model import SharedModel
from ..streaming import StreamingGenerator, StreamState
from ..text.timing import check_transcript
from ..types import AVChunk, GenerationRequest
from .wire import Wishes, pack_chunk, unpack_request, unpack_wishes

KEPT, KEPT_BYTES, KEPT_SECONDS = 64, 2 * 2**30, 1800.0
"""Most streams that wait to be continued, most memory of all of them, on whatever device, and how long one
waits; then the oldest goes.
"""
_RUNNING_SECONDS = 3.0
"""A stream of which nothing was asked for so long does not run any more."""
_LOOK_SECONDS = 0.2
MADE, WAITING = "x-made", "x-waiting"
"""Headers of a chunk: how many the engine has made, and whether some of them wait for their sound."""
SESSION = "x-session-id"
"""Header of the answer to PUT and of all that is asked of the stream afterwards: the replica that holds it,
where there are several (router.py).
"""


class UnknownStreamError(LookupError):
    """There is no such stream here, or not any more."""


class FullError(RuntimeError):
    """As many streams run as may."""


@dataclass(eq=False)
class _Held:
    state: StreamState
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: threading.Event = field(default_factory=threading.Event)
    asked: float = field(default_factory=time.monotonic)
    ready: deque[AVChunk] = field(default_factory=deque)
    given: int = 0
    """Chunks that were taken."""

    @property
    def runs(self) -> bool:
        recent = time.monotonic() - self.asked < _RUNNING_SECONDS
        return self.lock.locked() or (recent and not self.state.ended)

    @property
    def nbytes(self) -> int:
        """What it holds: pictures, sounds, the past and the decoders'."""
        request = self.state.request
        given = (request.image, request.audio, request.heard, request.voice)
        past = self.state.cache.nbytes + self.state.nbytes
        waiting = sum(chunk.frames.nbytes for chunk in self.ready)
        return past + waiting + sum(array.nbytes for array in given if array is not None)


class Engine:
    """The streams of one process. Any thread may ask."""

    def __init__(self, generator: StreamingGenerator, most: int = 4) -> None:
        """Begin without streams; at most `most` run at a time."""
        self.model, self.most = SharedModel(generator), most
        self._held: dict[str, _Held] = {}
        self._beginning = 0
        self._lock = threading.Lock()

    def begin(self, name: str, request: GenerationRequest) -> None:
        """Start a stream, in place of one of that name.

        Raises ValueError as StreamingGenerator.start does, and FullError.
        """
        self.end(name)
        with self._lock:
            self._check_room()
            self._beginning += 1
        try:
            held = _Held(self.model.start(request))
            held.state.abandoned = held.gone.is_set
            with self._lock:
                self._held[name] = held
                self._free_memory()
        finally:
            with self._lock:
                self._beginning -= 1

    def next(self, name: str, wishes: Wishes) -> AVChunk | None:
        """The next chunk of a stream, made as its page wishes; None at its end, or once it was given up.

        Raises UnknownStreamError, FullError for one that rested, and ValueError for wishes that it cannot
        obey.
        """
        with self._lock:
            held = self._held.get(name)
            if held is None:
                raise UnknownStreamError
            if not held.runs:
                self._check_room()
            held.asked = time.monotonic()
        with held.lock:
            if wishes.index != held.given:
                raise ValueError(f"Chunk {wishes.index} was asked for instead of {held.given}.")
            self.model.do(lambda generator: _obey(generator, held.state, wishes))
            held.ready.extend([] if held.ready else self.model.some(held.state))
            chunk = held.ready.popleft() if held.ready else None
            held.asked, held.given = time.monotonic(), held.given + (chunk is not None)
            return chunk

    def end(self, name: str) -> None:
        """Give the chunk in progress up, and forget the stream."""
        with self._lock:
            held = self._held.pop(name, None)
        if held:
            held.gone.set()

    def close(self) -> None:
        """End all streams. Nothing may be asked afterwards."""
        for name in list(self._held):
            self.end(name)
        self.model.close()

    def stands(self, name: str) -> tuple[int, bool]:
        """How many chunks of a stream were made, and whether some of them wait for their sound."""
        with self._lock:
            held = self._held.get(name)
        return (held.state.index, bool(held.state.waiting or held.ready)) if held else (0, False)

    @property
    def running(self) -> int:
        """Number of streams of which something is asked, or which begin."""
        with self._lock:
            return self._running()

    @property
    def full(self) -> bool:
        """Whether no other stream may begin."""
        return self.running >= self.most

    def _running(self) -> int:
        return self._beginning + sum(held.runs for held in self._held.values())

    def _check_room(self) -> None:
        if self._running() >= self.most:
            raise FullError

    def _free_memory(self) -> None:
        """Forget streams that have not run for long, and the oldest while there are too many or they hold
        too much.
        """
        now = time.monotonic()
        for name in [name for name, held in self._held.items() if not held.runs]:
            held = self._held.values()
            much = len(held) > KEPT or sum(each.nbytes for each in held) > KEPT_BYTES
            if much or now - self._held[name].asked > KEPT_SECONDS:
                del self._held[name]


def _obey(generator: StreamingGenerator, state: StreamState, wishes: Wishes) -> None:
    """Change a stream between two of its chunks."""
    request = state.request
    if wishes.total < state.index:
        raise ValueError("What was made already cannot be left out.")
    if state.driving is not None and wishes.total > state.total:
        raise ValueError("A stream driven by audio ends with it.")
    if wishes.transcript is not None:
        check_transcript(wishes.transcript, generator.system.duration.known_phonemes)
    how = wishes.caption, wishes.steps, wishes.steering
    if how != (request.caption, request.steps, request.steering):
        generator.steer(state, caption=wishes.caption, steps=wishes.steps, steering=wishes.steering)
    state.transcript, state.total = wishes.transcript or state.transcript, wishes.total


def application(engine: Engine, home: str = "") -> FastAPI:
    """The web application of an engine, which ends with it. home: this replica's name, where there are
    several.
    """

    # Its own, or chunks in progress would keep those from starting by which they are given up.
    threads = ThreadPoolExecutor(2 * engine.most + 8, "chunk")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(engine.close)
        threads.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(openapi_url=None, lifespan=lifespan)

    @app.exception_handler(ValueError)
    async def refused(_: Request, error: ValueError) -> Response:
        return Response(str(error), 422, media_type="text/plain")

    @app.exception_handler(UnknownStreamError)
    async def unknown(_: Request, __: UnknownStreamError) -> Response:
        return Response("There is no such stream here.", 404, media_type="text/plain")

    @app.exception_handler(FullError)
    async def full(_: Request, __: FullError) -> Response:
        return Response("As many streams run as may.", 503, media_type="text/plain")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        system = engine.model.generator.system
        names = {"name": system.config.name, "checkpoint": system.digest}
        return {**names, "pid": os.getpid(), "streams": engine.running, "most": engine.most}

    @app.put("/streams/{name}", status_code=201)
    async def begin(name: str, request: Request) -> Response:
        if engine.full:  # before a picture and a sound are read
            raise FullError
        data = await request.body()
        await run_in_threadpool(lambda: engine.begin(name, unpack_request(data)))
        return Response(status_code=201, headers={SESSION: home} if home else None)

    @app.post("/streams/{name}/next")
    async def advance(name: str, request: Request) -> Response:
        wishes = unpack_wishes(await request.body())
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(threads, engine.next, name, wishes)
        try:
            while not (await asyncio.wait([work], timeout=_LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    engine.end(name)
        except asyncio.CancelledError:  # Ray's word for a client that has gone
            engine.end(name)
            raise
        chunk = await work
        made, waiting = engine.stands(name)
        headers = {MADE: str(made), WAITING: str(int(waiting))}
        if chunk is None:
            return Response(status_code=204, headers=headers)
        data = await run_in_threadpool(pack_chunk, chunk)
        return Response(data, media_type="application/octet-stream", headers=headers)

    @app.delete("/streams/{name}", status_code=204)
    async def end(name: str) -> Response:
        engine.end(name)
        return Response(status_code=204)

    return app
