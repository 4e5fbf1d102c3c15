"""The visitors' talks, one each: begun, stopped, continued, saved and forgotten."""

from __future__ import annotations

import atexit
import logging
import secrets
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.media import StreamMuxer, remux_faststart
from mutual_forcing.types import GenerationRequest, StreamPlan

from .films import Film, FilmShelf
from .gpu import leased
from .limits import Limits
from .model import ClosedError, Model
from .pace import Pace, measure
from .progress import Progress, failure
from .texts import say

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

log = logging.getLogger(__name__)
_KEEP_TALKS = 64
_KEEP_CLIPS = 16
_KEEP_BYTES = 600 * 2**20
"""Of pictures and maps in the talks that are kept: those of a large film have up to 90 MB."""


@dataclass
class Talk:
    """What one visitor has made so far, and where the model stands."""

    request: GenerationRequest
    state: StreamState
    muxer: StreamMuxer
    said: list[str]
    face: int = 1
    parts: list[bytes] = field(default_factory=list)
    tail: bytes = b""
    running: bool = False
    broken: bool = False
    clip: Path | None = None
    film: str = ""
    """Id of the film that is watched."""
    problem: str = ""
    """Why it ended early, in one sentence."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set: end after the chunk in progress."""
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set: nobody reads the chunks any more."""


class Studio:
    """The generator, its pace, the films being watched and the visitors' talks."""

    def __init__(self, generator: StreamingGenerator, limits: Limits | None = None) -> None:
        self.generator = generator
        self.model = Model(generator)
        self.limits = limits or Limits()
        self.shelf = FilmShelf()
        self.pace = Pace()
        self._talks: dict[str, Talk] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="mutual-forcing-clips-")
        self._released: deque[Path] = deque()
        self._measuring: threading.Thread | None = None
        self._ends: list[Callable[[], None]] = []
        _close_at_exit(self)

    def close(self) -> None:
        """End everything, wait for the threads that use the model, and remove every file."""
        for end in self._ends:
            end()
        for talk in list(self._talks.values()):
            talk.abandoned.set()
        for visitor in list(self._talks):
            self.forget(visitor)
        self.model.close()
        if self._measuring:
            self._measuring.join(timeout=1)  # it has left the model
        self._folder.cleanup()

    def at_close(self, end: Callable[[], None]) -> None:
        """Let `close` begin with `end()`: for what else streams with this studio's model."""
        self._ends.append(end)

    def talk_of(self, visitor: str) -> Talk | None:
        """Return the visitor's last talk."""
        return self._talks.get(visitor)

    def stop(self, visitor: str) -> None:
        """End the visitor's stream after the chunk in progress; what was made is kept."""
        talk = self._talks.get(visitor)
        if talk:
            talk.stop.set()

    def forget(self, visitor: str) -> None:
        """End what the visitor has running and drop it."""
        talk = self._talks.pop(visitor, None)
        if talk:
            talk.stop.set()
            self.shelf.drop(talk.film)
            _remove(talk.clip)

    def release(self, visitor: str) -> None:
        """Drop the visitor's talk but keep its clip until a few others are finished."""
        talk = self._talks.pop(visitor, None)
        if talk:
            self.shelf.drop(talk.film)
        if talk and talk.clip:
            self._released.append(talk.clip)
        while len(self._released) > _KEEP_CLIPS:
            _remove(self._released.popleft())

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """Return what `begin` would make; raises ValueError as it would."""
        plan = self.generator.plan(request)
        self._check(request, plan.chunks)
        return plan

    def begin(self, visitor: str, request: GenerationRequest, face: int = 1) -> Iterator[Progress]:
        """Start a new talk in place of the visitor's last one; its settings will name the `face`.

        Raises ValueError for text that cannot be spoken or takes too long and for a face that cannot be
        animated; the last talk is then still there.
        """
        state = self.generator.start(request)
        self._check(request, state.total)
        self.forget(visitor)
        muxer = StreamMuxer(*state.film_size, _wished_seconds(request))
        talk = Talk(request, state, muxer, said=[request.text], face=face)
        self._talks[visitor] = talk
        self._make_room()
        yield from self._run(talk)

    def proceed(self, visitor: str, text: str) -> Iterator[Progress]:
        """Go on from where the visitor's talk ended, saying `text`."""
        talk = self._talks.get(visitor)
        if talk is None or talk.broken or not talk.parts:
            raise ValueError("There is nothing to continue: press Talk first.")
        if talk.running:
            raise ValueError("The stream is still running: stop it first.")
        if text.strip():
            self._extend(talk, text)
        elif talk.state.index >= talk.state.total:
            raise ValueError("Type what to say next.")
        talk.tail, talk.problem = b"", ""
        talk.stop, talk.abandoned = threading.Event(), threading.Event()
        talk.muxer = talk.muxer.resumed()
        yield from self._run(talk)

    def save(self, talk: Talk) -> Path:
        """Write the talk so far as an MP4 with its settings inside, and return its path."""
        _remove(talk.clip)
        name = f"talk-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.mp4"
        talk.clip = Path(self._folder.name) / name
        film = b"".join([*talk.parts, talk.tail])
        talk.clip.write_bytes(remux_faststart(film, self._settings(talk)))
        return talk.clip

    def measure_in_background(self) -> None:
        """Time the model, so that the page can say beforehand how long a request takes."""
        # With a borrowed GPU this process would time itself: there the first stream tells.
        if not leased():
            self._measuring = threading.Thread(target=self._measure, name="pace", daemon=True)
            self._measuring.start()

    def _measure(self) -> None:
        try:
            self.pace = measure(self.model)
        except ClosedError:
            pass
        except Exception:
            log.exception("The speed of this machine could not be measured.")

    def _make_room(self) -> None:
        """Forget the oldest talks while there are too many, and the oldest ended ones of too many bytes."""
        for old in list(self._talks)[:-_KEEP_TALKS]:
            self.forget(old)
        held = {visitor: _bytes_of(talk) for visitor, talk in list(self._talks.items())}
        ended = [v for v in list(held)[:-1] if v in self._talks and not self._talks[v].running]
        for visitor in ended:
            if sum(held.values()) <= _KEEP_BYTES:
                break
            self.forget(visitor)
            del held[visitor]

    def _extend(self, talk: Talk, text: str) -> None:
        state, before = talk.state, (talk.state.transcript, talk.state.total)
        self.limits.check_text(text)
        self.generator.extend(state, text=text)
        try:
            self.limits.check_seconds(state.total * CHUNK_SECONDS)
        except ValueError:
            state.transcript, state.total = before
            raise
        talk.said.append(text)

    def _settings(self, talk: Talk) -> dict[str, Any]:
        names = (
            "caption", "steps", "guidance_scale", "seed", "seconds", "window", "size", "framing",
        )  # fmt: skip
        return {
            "text": " ".join(filter(None, talk.said)),
            **{name: getattr(talk.request, name) for name in names},
            "face": talk.face,
            "model": self.generator.config.name,
            "checkpoint": self.generator.system.digest,
            **({"ended_early": talk.problem} if talk.problem else {}),
        }

    def _run(self, talk: Talk) -> Iterator[Progress]:
        film = self.shelf.new()
        self.shelf.drop(talk.film)
        talk.film = film.id
        if talk.parts:
            film.append(talk.muxer.header)
        progress = self._announce(talk, film)
        offset, talk.running = talk.muxer.seconds, True
        try:
            yield progress
            before = None
            for chunk in self.model.chunks(talk.request, talk.state, talk.stop, talk.abandoned):
                data = talk.muxer.add(chunk.frames, chunk.audio)
                film.append(data)
                talk.parts.append(data)
                now, made = time.perf_counter(), talk.muxer.seconds
                # Waiting for other visitors is no property of the model: count from its start.
                before = before or now - chunk.seconds_spent
                rate = (made - offset) / max(1e-6, now - before)
                total = f"{progress.seconds:.1f}"
                status = say("stream.progress", made=f"{made:.1f}", total=total)
                progress = progress.after(chunk, made, rate, status)
                talk.problem = self.limits.worked_off(now - before)
                if talk.problem:
                    talk.stop.set()
                yield progress
        except BaseException as error:
            # The model may have gone on after the last chunk that was kept.
            talk.broken = True
            talk.problem = failure(error) if isinstance(error, Exception) else ""
            raise
        else:
            self._learn_pace(talk.request, progress)
        finally:
            talk.abandoned.set()
            talk.running = False
            talk.broken |= leased()
            talk.tail = talk.muxer.finish()
            film.append(talk.tail)
            film.close()
        yield progress.ended(talk.problem)

    def _learn_pace(self, request: GenerationRequest, progress: Progress) -> None:
        # The machine may have become busier or freer since it was measured.
        if progress.rate:
            self.pace = self.pace.after(request, CHUNK_SECONDS / progress.rate)

    def _announce(self, talk: Talk, film: Film) -> Progress:
        request, continues = talk.request, bool(talk.parts)
        expected = self.pace.chunk_seconds(request)
        seconds = talk.state.total * CHUNK_SECONDS
        if not continues:
            seconds = min(seconds, _wished_seconds(request) or seconds)
        rate = CHUNK_SECONDS / expected if expected else 1.0
        first = Progress.start(film, talk.muxer, request, seconds)
        return replace(first, continues=continues, expected_rate=rate)

    def _check(self, request: GenerationRequest, chunks: int) -> None:
        self.limits.check_seconds(_wished_seconds(request) or chunks * CHUNK_SECONDS)
        work = self.pace.overhead + chunks * self.pace.chunk_seconds(request)
        self.limits.check_work(work)


def _wished_seconds(request: GenerationRequest) -> float | None:
    """How long the film shall be, if that is known: chunks only come whole."""
    if request.seconds is None and request.audio is not None:
        return len(request.audio) / SAMPLE_RATE
    return request.seconds


def _bytes_of(talk: Talk) -> int:
    """Of the pictures and maps that its state holds."""
    return talk.request.image.nbytes + talk.state.canvas.nbytes


def _close_at_exit(studio: Studio) -> None:
    """Let a studio that nobody closes end its threads before the interpreter shuts down."""
    reference = weakref.ref(studio)

    def close() -> None:
        forgotten = reference()
        if forgotten:
            forgotten.close()

    atexit.register(close)


def _remove(path: Path | None) -> None:
    if path:
        path.unlink(missing_ok=True)
