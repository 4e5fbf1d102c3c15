"""A generator whose streams an engine makes somewhere else: what a page needs of one, without its weights."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import torch

from ..characters import Character
from ..checkpoint import load_checkpoint
from ..models.wan_transformer import WanAVTransformer
from ..sampling import Sampler
from ..streaming import AbandonedError, StreamingGenerator, StreamState
from ..types import AVChunk, GenerationRequest, Steering, Transcript
from . import EngineError
from .service import MADE, SESSION, WAITING
from .wire import Wishes, pack_request, pack_wishes, unpack_chunk

_FULL = "Too many films are being made: try again in a minute."
_CONNECT_SECONDS, _CHUNK_SECONDS, _FULL_SECONDS = 10.0, 120.0, 60.0
_LOOK_SECONDS, _AGAIN_SECONDS, _END_SECONDS = 0.05, 0.5, 5.0


@dataclass
class RemoteState(StreamState):
    """A stream as its page knows it. The past, the references and the decoders are with the engine."""

    name: str = ""
    home: str = ""
    """The replica that holds it, where the engine has several."""
    told: Transcript | None = None
    """The transcript that the engine has."""
    taken: int = 0
    """Chunks that came; `index` is how many the engine has made."""
    pending: bool = False
    """Whether chunks wait there for their sound."""

    @property
    def ended(self) -> bool:
        """See StreamState."""
        return self.index >= self.total and not self.pending

    def wishes(self) -> Wishes:
        """What the next chunk and the rest of the stream shall be."""
        # Words are added before they count: in this order none are asked for that are not there.
        request, total, said = self.request, self.total, self.transcript
        how = request.caption, request.steps, request.steering
        return Wishes(self.taken, total, *how, None if said is self.told else said)


class RemoteGenerator(StreamingGenerator):
    """Plans and lays out films here, and lets an engine make them. Any thread may use it, but a stream has
    one reader.
    """

    def __init__(self, address: str, source: str | Path = "tiny", streams: int = 4) -> None:
        """Load the checkpoint that the engine has: its texts are planned here.

        Args:
            address: of the engine, http://HOST:PORT.
            source: the checkpoint, as `from_pretrained` takes it.
            streams: how many may be asked for at a time.

        Raises:
            ValueError: there is no such checkpoint, or the engine has another one.
            EngineError: it does not answer.
        """
        if streams < 1:
            raise ValueError("An engine makes a stream at a time at least: --streams 1 or more.")
        super().__init__(load_checkpoint(source), torch.device("cpu"))
        self.streams, self._address = streams, address.rstrip("/")
        # A stream has its own connection, and may end itself by another one.
        limits = httpx.Limits(max_connections=2 * streams + 4, max_keepalive_connections=streams)
        try:
            self._web = httpx.Client(
                base_url=self._address, limits=limits, trust_env=False,
                timeout=httpx.Timeout(_CHUNK_SECONDS, connect=_CONNECT_SECONDS),
            )  # fmt: skip
        except httpx.InvalidURL as error:
            raise ValueError(f"{address} is no address: give http://HOST:PORT.") from error
        self._threads = ThreadPoolExecutor(2 * streams + 4, "engine")
        theirs = self._health()
        if theirs.get("checkpoint") != self.system.digest:
            raise ValueError(
                f"The engine at {self._address} has the checkpoint {theirs.get('name')}, another one than "
                f"{source}: give the page the same."
            )
        # Nothing is computed with them here.
        model = self.system.model.to("meta")
        if isinstance(model, WanAVTransformer):
            model.text = None

    def character(self, request: GenerationRequest) -> Character:
        """The film's layout; the engine reads the picture itself."""

        def make() -> Character:
            return Character(self.canvas(request), None)

        return self._characters.get(request, self.device, make)

    def prepare(self, request: GenerationRequest) -> None:
        """As StreamingGenerator.prepare, by one replica of the engine."""
        self.forget(self.start(request))

    def start(self, request: GenerationRequest) -> RemoteState:
        """As StreamingGenerator.start; raises EngineError too, where the engine is lost or full."""
        transcript = self._transcript(request)
        state = RemoteState(
            request=request,
            sampler=Sampler.of(request.steps, request.guidance_scale),
            transcript=transcript,
            canvas=self.character(request).canvas,
            driving=None if request.audio is None else torch.zeros(0),
            total=self._length(request, transcript),
            told=transcript,
            # What follows is with the engine.
            references=None, reference=None, cache=None, video_decoder=None,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        if request.audio is None:
            # Both say the same, but a float here may be another there.
            request = replace(request, transcript=transcript)
        data, patience = pack_request(request), time.monotonic() + _FULL_SECONDS
        while True:
            # The next time it may be another replica, which has room.
            state.name = uuid.uuid4().hex
            answer = self._ask("PUT", state, "", data)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                state.home = answer.headers.get(SESSION, "")
                return state
            if time.monotonic() > patience:
                raise EngineError(_FULL)
            time.sleep(_AGAIN_SECONDS)

    def _rest_of(self, state: StreamState) -> Iterator[AVChunk]:
        """What `stream` yields; raises EngineError where the engine, or the stream there, is lost."""
        assert isinstance(state, RemoteState), "streams of this generator"
        while not state.ended and (chunk := self._next(state)) is not None:
            yield chunk

    def steer(
        self,
        state: StreamState,
        *,
        caption: str | None = None,
        steps: int | None = None,
        steering: Steering | None = None,
    ) -> None:
        """As StreamingGenerator.steer."""
        request, sampler = self._changed(state, caption, steps, steering)
        state.request, state.sampler = request, sampler

    def forget(self, state: StreamState) -> None:
        """As StreamingGenerator.forget: the engine has room for another stream; nothing waits for it."""
        assert isinstance(state, RemoteState), "streams of this generator"
        with contextlib.suppress(RuntimeError):  # It was closed.
            self._threads.submit(self._end, state)

    def close(self) -> None:
        """Leave the engine."""
        self._threads.shutdown(cancel_futures=True)
        self._web.close()

    def _next(self, state: RemoteState) -> AVChunk | None:
        """Ask for a chunk, and give it up as soon as the stream is abandoned."""
        patience = time.monotonic() + _FULL_SECONDS
        while True:
            wishes = state.wishes()
            answer = self._wait(state, pack_wishes(wishes))
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            if time.monotonic() > patience:  # It rested, and others took its place.
                raise EngineError(_FULL)
            time.sleep(_AGAIN_SECONDS)
        state.told = wishes.transcript or state.told
        state.index = int(answer.headers.get(MADE, state.index))
        state.pending = answer.headers.get(WAITING) == "1"
        if answer.status_code == httpx.codes.NO_CONTENT:
            return None
        state.taken += 1
        return unpack_chunk(answer.content)

    def _wait(self, state: RemoteState, wishes: bytes) -> httpx.Response:
        work = self._threads.submit(self._ask, "POST", state, "/next", wishes)
        while True:
            if state.abandoned and state.abandoned():
                self.forget(state)
                raise AbandonedError
            with contextlib.suppress(NotYetError):
                return work.result(_LOOK_SECONDS)

    def _end(self, state: RemoteState) -> None:
        with contextlib.suppress(httpx.HTTPError):  # Then it ends there by itself.
            self._web.delete(f"/streams/{state.name}", headers=_to(state), timeout=_END_SECONDS)

    def _health(self) -> dict[str, Any]:
        """What the engine says of itself; EngineError for what is none."""
        try:
            answer = self._web.get("/health")
            told = answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            raise EngineError(f"No engine answers at {self._address}.") from error
        if not isinstance(told, dict):
            raise EngineError(f"What answers at {self._address} is no engine, or is not ready yet.")
        return told

    def _ask(self, method: str, state: RemoteState, what: str, data: bytes) -> httpx.Response:
        """The answer, also that there is no room; a refusal is a ValueError, all else an EngineError."""
        path = f"/streams/{state.name}{what}"
        try:
            answer = self._web.request(method, path, content=data, headers=_to(state))
        except httpx.TransportError as error:
            raise EngineError("The machine that makes the films does not answer.") from error
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise ValueError(answer.text)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise EngineError("The machine that made this film has lost it: begin it again.")
        if answer.is_error and answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            raise EngineError("The machine that makes the films has failed.")
        return answer


def _to(state: RemoteState) -> dict[str, str]:
    """Headers by which a request finds the replica that holds the stream."""
    return {SESSION: state.home} if state.home else {}
