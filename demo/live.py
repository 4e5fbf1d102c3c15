"""A stream that is changed while it runs: text, style and steps, obeyed by the next chunk."""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutual_forcing.caption import EMOTIONS, MOTIONS
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import StreamMuxer, remux_faststart
from mutual_forcing.types import MAX_STEPS, AVChunk, GenerationRequest

from .films import ROUTE, Film
from .studio import Progress

if TYPE_CHECKING:
    from mutual_forcing import StreamState

    from .studio import Studio

log = logging.getLogger(__name__)
_LEAD = 0.5
"""Seconds that stay buffered while the next chunk is made; more would make changes come late."""
_LONGEST_LEAD = 3.0


@dataclass(frozen=True)
class Limits:
    """quiet: seconds without text after which a stream ends. longest: seconds of any stream."""

    quiet: float = 15.0
    longest: float = 240.0


@dataclass(frozen=True)
class Moment:
    """One chunk of the timeline: its start in seconds and how it was made."""

    start: float
    steps: int
    mode: str
    style: str


@dataclass(frozen=True)
class Live:
    """What the page is told: the player's progress and the timeline. Complete in itself."""

    progress: Progress
    moments: tuple[Moment, ...] = ()
    words: tuple[tuple[str, float, float], ...] = ()
    planned: float = 0.0

    def timeline(self) -> dict[str, Any]:
        """Return chunks [start, steps, mode, style] and words [word, start, end] as plain values."""
        return {
            "id": self.progress.id,
            "done": self.progress.done,
            "made": self.progress.made,
            "planned": self.planned,
            "chunk": CHUNK_SECONDS,
            "chunks": [[round(m.start, 2), m.steps, m.mode, m.style] for m in self.moments],
            "words": [[word, round(a, 2), round(b, 2)] for word, a, b in self.words],
        }


@dataclass
class Session:
    """One running stream. `lock` guards what the visitor may change between two chunks."""

    state: StreamState
    muxer: StreamMuxer
    film: Film
    limits: Limits
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    running: bool = True
    said: list[str] = field(default_factory=list)
    caption: str | None = None
    steps: int | None = None
    moments: list[Moment] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    quiet: float = 0.0
    why: str = ""
    clip: Path | None = None


class LiveStage:
    """The visitors' live streams: one each."""

    def __init__(self, studio: Studio, limits: Limits | None = None) -> None:
        self.studio, limits = studio, limits or Limits()
        self.limits = replace(limits, longest=min(limits.longest, studio.limits.seconds))
        self._sessions: dict[str, Session] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="mutual-forcing-live-")

    def session_of(self, visitor: str) -> Session | None:
        """Return the visitor's last stream."""
        return self._sessions.get(visitor)

    def run(self, visitor: str, request: GenerationRequest) -> Iterator[Live]:
        """Stream until the visitor stops or stays silent; raises ValueError for unspeakable text."""
        if request.audio is not None:
            raise ValueError("A live stream is driven by text, not by a sound.")
        self.forget(visitor)
        session = self._open(request)
        self._sessions[visitor] = session
        news: queue.Queue[Live | Exception | None] = queue.Queue()
        threading.Thread(target=self._produce, args=(session, news), daemon=True).start()
        last = _live(session, _announce(session))
        try:
            yield last
            while (item := news.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                last = item
                if news.empty():  # of several only the last counts, as each is complete
                    yield last
        finally:
            session.stop.set()
        ended = replace(
            last.progress, done=True, status=f"{last.progress.made:.1f} s. {session.why}"
        )
        yield _live(session, ended)

    def say(self, visitor: str, text: str) -> float:
        """Append text; return the second of the stream at which it begins.

        Raises ValueError when nothing runs, for unspeakable text and beyond the longest stream.
        """
        session = self._running(visitor)
        with session.lock:
            start = session.state.total * CHUNK_SECONDS
            if start > session.limits.longest:
                raise ValueError(f"A live stream lasts {session.limits.longest:.0f} s at most.")
            self.studio.generator.extend(session.state, text)
            session.said.append(text.strip())
        return start

    def steer(
        self,
        visitor: str,
        emotion: str | None = None,
        motion: str | None = None,
        steps: float | None = None,
    ) -> float:
        """Change style or steps; return the second of the stream from which it holds.

        None leaves a value as it is. Raises ValueError when nothing runs and for wrong values.
        """
        session = self._running(visitor)
        count = None if steps is None else _step_count(steps, self.studio.generator.max_steps)
        with session.lock:
            now = session.caption or session.state.request.caption
            session.caption = _restyled(now, emotion, motion)
            session.steps = count or session.steps
            return (session.state.index + 1) * CHUNK_SECONDS

    def stop(self, visitor: str) -> None:
        """End the visitor's stream after the chunk in progress; what was made is kept."""
        session = self._sessions.get(visitor)
        if session:
            session.why = session.why or "Stopped."
            session.stop.set()

    def forget(self, visitor: str) -> None:
        """End the visitor's stream and remove its clip."""
        session = self._sessions.pop(visitor, None)
        if session:
            session.stop.set()
            if session.clip:
                session.clip.unlink(missing_ok=True)

    def save(self, visitor: str) -> Path | None:
        """Write what the visitor's stream has made as an MP4; None when that is nothing."""
        session = self._sessions.get(visitor)
        if session is None or not session.moments:
            return None
        name = f"live-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}.mp4"
        path = Path(self._folder.name) / name
        path.write_bytes(remux_faststart(b"".join(session.parts), self._settings(session)))
        session.clip = path
        return path

    def _running(self, visitor: str) -> Session:
        session = self._sessions.get(visitor)
        if session is None or not session.running:
            raise ValueError("Nothing is running: start the stream first.")
        return session

    def _open(self, request: GenerationRequest) -> Session:
        state = self.studio.generator.start(request)
        size = self.studio.generator.video_size
        muxer, film = StreamMuxer(size, size), self.studio.shelf.new()
        said = [request.text.strip()]
        return Session(state, muxer, film, self.limits, said=said)

    def _settings(self, session: Session) -> dict[str, Any]:
        generator, changes = self.studio.generator, session.moments[:1]
        for moment in session.moments[1:]:
            if (moment.steps, moment.style) != (changes[-1].steps, changes[-1].style):
                changes.append(moment)
        return {
            "text": " ".join(session.said),
            "seed": session.state.request.seed,
            "changes": [
                {"seconds": round(m.start, 2), "steps": m.steps, "caption": m.style}
                for m in changes
            ],
            "model": generator.config.name,
            "checkpoint": generator.system.digest,
        }

    def _produce(self, session: Session, news: queue.Queue) -> None:
        end: Exception | None = None
        try:
            with self.studio._model:
                self._chunks(session, news)
        except Exception as error:
            log.exception("A live stream failed.")
            end = error
        finally:
            session.running = False
            tail = session.muxer.finish()
            session.parts.append(tail)
            session.film.append(tail)
            session.film.close()
        news.put(end)

    def _chunks(self, session: Session, news: queue.Queue) -> None:
        began: float | None = None
        progress = _announce(session)
        while not session.stop.is_set() and self._prepare(session):
            started = time.perf_counter()
            chunk = next(self.studio.generator.stream(state=session.state))
            data = session.muxer.add(chunk.frames, chunk.audio)
            session.film.append(data)
            session.parts.append(data)
            now = time.perf_counter()
            self._note(session, chunk)
            progress = _after(session, progress, chunk, now - started)
            news.put(_live(session, progress))
            # The viewer's clock: it stands still while there is nothing to play.
            began = max(began or now, now - progress.made)
            session.stop.wait(progress.made - (now - began) - _lead(now - started))

    def _prepare(self, session: Session) -> bool:
        """Apply what the visitor wants for the next chunk; False when the stream has ended."""
        state = session.state
        with session.lock:
            if session.caption is not None or session.steps is not None:
                self.studio.generator.steer(state, caption=session.caption, steps=session.steps)
                session.caption = session.steps = None
            if state.index < state.total and state.seconds < session.limits.longest:
                session.quiet = 0.0
            elif state.seconds >= session.limits.longest:
                session.why = f"A live stream lasts {session.limits.longest:.0f} s at most."
                return False
            elif session.quiet >= session.limits.quiet:
                session.why = f"Nothing was said for {session.limits.quiet:.0f} s."
                return False
            else:
                self.studio.generator.rest(state)
                session.quiet += CHUNK_SECONDS
        return True

    def _note(self, session: Session, chunk: AVChunk) -> None:
        request = session.state.request
        with session.lock:
            session.moments.append(
                Moment(chunk.start, request.steps, request.mode, request.caption)
            )


def _announce(session: Session) -> Progress:
    return Progress(
        id=session.film.id,
        path=ROUTE + session.film.id,
        mime=session.muxer.mime_type,
        seconds=session.state.total * CHUNK_SECONDS,
        mode=_badge(session),
        continues=False,
        expected_rate=1.0,
    )


def _badge(session: Session) -> str:
    request = session.state.request
    name = "Few" if request.mode == "few" else "Multi"
    return f"{name} mode · {request.steps} step{'s' * (request.steps > 1)}"


def _after(session: Session, progress: Progress, chunk: AVChunk, spent: float) -> Progress:
    quiet = session.quiet
    rate, made = CHUNK_SECONDS / spent, session.muxer.seconds
    left = session.limits.quiet - quiet
    status = f"Listening: ends in {left:.0f} s without text." if quiet else f"{made:.1f} s made."
    return replace(
        progress,
        seconds=max(made, session.state.total * CHUNK_SECONDS),
        mode=_badge(session),
        made=made,
        rate=rate,
        fps=rate * len(chunk.frames) / CHUNK_SECONDS,
        nfe=chunk.nfe,
        status=status,
    )


def _live(session: Session, progress: Progress) -> Live:
    with session.lock:
        transcript, total = session.state.transcript, session.state.total
        moments = tuple(session.moments)
    words = transcript.words if transcript else ()
    return Live(
        progress,
        moments,
        tuple((w.word, w.start, w.end) for w in words),
        max(progress.made, total * CHUNK_SECONDS),
    )


def _lead(spent: float) -> float:
    return min(_LONGEST_LEAD, _LEAD + 1.3 * spent)


def _restyled(caption: str, emotion: str | None, motion: str | None) -> str:
    """Return the caption with another emotion or motion; raises ValueError for unknown ones."""
    if emotion not in (None, *EMOTIONS) or motion not in (None, *MOTIONS):
        raise ValueError("Choose an emotion and a motion from the lists.")
    old_emotion, _, old_motion = caption.partition(", ")
    return f"{emotion or old_emotion}, {motion or old_motion}"


def _step_count(value: float, limit: int) -> int:
    if value != value or value != value // 1 or not 1 <= value <= min(limit, MAX_STEPS):
        raise ValueError(f"The number of steps must be a whole number from 1 to {limit}.")
    return int(value)
