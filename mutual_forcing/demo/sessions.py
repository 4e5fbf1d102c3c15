"""The visitors' streams on the Talk tab, one for each session, and the model that makes them."""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutual_forcing.chunks import CHUNK_SECONDS, FRAMES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.media import StreamMuxer, remux_faststart
from mutual_forcing.spool import Spool
from mutual_forcing.types import GenerationRequest, StreamPlan

from .gpu import leased
from .latency import LatencyModel, measure
from .limits import Limits
from .model import ClosedError, Model
from .progress import Progress, failure
from .session_store import SessionStore
from .texts import say
from .video_store import Video, VideoStore

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

log = logging.getLogger(__name__)
_MAX_SESSIONS = 64
_MAX_RELEASED_CLIPS = 16
_MAX_BYTES = 600 * 2**20
"""Limit for the pictures, maps and sounds of all sessions: one with a large video holds up to 120 MB, one
with ten minutes of a user's own sound as much as 173 MB more.
"""


@dataclass
class Session:
    """One visitor's stream: what was made so far, and the state of the model."""

    request: GenerationRequest
    state: StreamState
    muxer: StreamMuxer
    said: list[str]
    face: int = 1
    """Number of the face that talks, for the settings."""
    film: Spool = field(default_factory=Spool)
    """What was made so far as a fragmented MP4, and `tail` its end, unless the stream is continued."""
    tail: bytes = b""
    running: bool = False
    broken: bool = False
    """Whether the stream cannot be continued."""
    clip: Path | None = None
    """File of the finished clip."""
    video_id: str = ""
    """Id of the video in the video store."""
    problem: str = ""
    """Why the stream ended early, in one sentence."""
    stop: threading.Event = field(default_factory=threading.Event)
    """When set, the stream ends after the chunk in progress."""
    abandoned: threading.Event = field(default_factory=threading.Event)
    """When set, nobody reads the chunks any more, and the one in progress is given up."""

    @property
    def limit(self) -> float | None:
        """Seconds after which the film ends; None where the words decide, as they do once text is added."""
        return _requested_seconds(self.request) if len(self.said) == 1 else None


class SessionManager:
    """Starts, stops, continues, saves and drops the sessions.

    It also holds what all tabs share: the model, its latency, the limits and the video store.
    """

    def __init__(self, generator: StreamingGenerator, limits: Limits | None = None) -> None:
        self.generator = generator
        self.model = Model(generator)
        self.limits = limits or Limits()
        self.videos = VideoStore()
        self.latency = LatencyModel()
        self._sessions = SessionStore[Session]("clips", _MAX_SESSIONS, self._release)
        self._beginning = threading.Lock()
        self._released_clips: deque[Path] = deque()
        self._measuring: threading.Thread | None = None
        self._at_close: list[Callable[[], None]] = []
        _close_at_exit(self)

    def close(self) -> None:
        """End all streams, wait for the threads that use the model, and remove all files."""
        for callback in self._at_close:
            callback()
        for session_id, _ in self._sessions.items():
            self.forget(session_id)
        self.model.close()
        if self._measuring:
            self._measuring.join(timeout=1)  # It no longer uses the model.
        self._sessions.close()

    def at_close(self, callback: Callable[[], None]) -> None:
        """Register a function that `close` calls first, for other users of this model."""
        self._at_close.append(callback)

    def session_of(self, session_id: str) -> Session | None:
        """Return the visitor's session, or None."""
        return self._sessions.get(session_id)

    def stop(self, session_id: str) -> None:
        """End the visitor's stream after the chunk in progress; what was made is kept."""
        session = self._sessions.get(session_id)
        if session:
            session.stop.set()

    def forget(self, session_id: str) -> None:
        """End the visitor's stream at once and drop the session with its clip."""
        self._sessions.drop(session_id)

    def release(self, session_id: str) -> None:
        """Drop the session but keep its clip until 16 other clips have been released."""
        session = self._sessions.pop(session_id)
        if session:
            self.generator.forget(session.state)
            self.videos.drop(session.video_id)
            if session.clip:
                self._released_clips.append(session.clip)
        while len(self._released_clips) > _MAX_RELEASED_CLIPS:
            _remove(self._released_clips.popleft())

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """Return what `begin` would make; raises ValueError as it would."""
        plan = self.generator.plan(request)
        self._check(request, plan.chunks)
        return plan

    def begin(
        self, session_id: str, request: GenerationRequest, face: int = 1
    ) -> Generator[Progress, None, None]:
        """Start a new session in place of the visitor's last one and stream it.

        Args:
            session_id: names the visitor.
            request: what to generate.
            face: number of the face that talks, for the settings in the clip.

        Raises:
            ValueError: the text cannot be spoken, the stream would take too long, or the face cannot
                be animated. The last session is then still there.
        """
        self.plan(request)  # Raises before anything is read, or a place taken.
        state = self.generator.start(request)
        given = 0 if request.heard is None else request.heard.shape[1]
        muxer = StreamMuxer(*state.film_size, _requested_seconds(request), given)
        session = Session(request, state, muxer, said=[request.text], face=face)
        self._sessions.put(session_id, session)
        self._free_memory()
        yield from self._run(session)

    def proceed(self, session_id: str, text: str) -> Generator[Progress, None, None]:
        """Continue the visitor's stream where it ended, with `text`; raises ValueError if it cannot."""
        session = self._sessions.get(session_id)
        if session is None or session.broken or not session.film.size:
            raise ValueError("There is nothing to continue: press Talk first.")
        with self._beginning:
            if session.running:
                raise ValueError("The stream is still running: stop it first.")
            session.running = True
        try:
            if text.strip():
                self._extend(session, text)
            elif session.state.ended:
                raise ValueError("Type what to say next.")
        except ValueError:
            session.running = False
            raise
        session.tail, session.problem = b"", ""
        session.stop, session.abandoned = threading.Event(), threading.Event()
        session.muxer = session.muxer.resumed(session.limit)
        yield from self._run(session)

    def save(self, session: Session) -> Path:
        """Write what was made so far as an MP4 file with its settings, and return its path."""
        _remove(session.clip)
        session.clip = self._sessions.new_clip("talk")
        film = itertools.chain(session.film.blocks(), [session.tail])
        remux_faststart(film, session.clip, self._settings(session))
        return session.clip

    def measure_in_background(self) -> None:
        """Measure the latency, so that the page can predict how long a request takes."""
        # On ZeroGPU this process has no GPU to measure; there the first stream gives the latency.
        if not leased():
            self._measuring = threading.Thread(target=self._measure, name="latency", daemon=True)
            self._measuring.start()

    def _measure(self) -> None:
        try:
            self.latency = measure(self.model)
        except ClosedError:
            pass
        except Exception:
            log.exception("The speed of this machine could not be measured.")

    def _release(self, _: str, session: Session) -> None:
        session.abandoned.set()
        self.generator.forget(session.state)
        self.videos.drop(session.video_id)
        _remove(session.clip)

    def _free_memory(self) -> None:
        """Drop the oldest ended sessions while all of them hold too many bytes."""
        sessions = self._sessions.items()
        held = sum(_bytes_of(session) for _, session in sessions)
        for session_id, session in sessions[:-1]:
            if held <= _MAX_BYTES:
                break
            if not session.running:
                held -= _bytes_of(session)
                self.forget(session_id)

    def _extend(self, session: Session, text: str) -> None:
        state, before = session.state, (session.state.transcript, session.state.total)
        self.limits.check_text(text)
        self.generator.extend(state, text=text)
        try:
            self.limits.check_seconds(state.total * CHUNK_SECONDS)
        except ValueError:
            state.transcript, state.total = before
            raise
        session.said.append(text)

    def _settings(self, session: Session) -> dict[str, Any]:
        names = (
            "caption", "steps", "guidance_scale", "seed", "seconds", "window", "size", "framing",
            "language",
        )  # fmt: skip
        transcript = session.state.transcript
        return {
            "text": " ".join(filter(None, session.said)),
            "unspoken": list(transcript.unspoken) if transcript else [],
            **{name: getattr(session.request, name) for name in names},
            "face": session.face,
            "model": self.generator.config.name,
            "checkpoint": self.generator.system.digest,
            **({"ended_early": session.problem} if session.problem else {}),
        }

    def _run(self, session: Session) -> Generator[Progress, None, None]:
        """Stream the rest of the session into a new video."""
        video = self.videos.new(session.film, session.muxer.header if session.film.size else b"")
        self.videos.drop(session.video_id)
        session.video_id = video.id
        progress = first = self._first_progress(session, video)
        session.running = True
        try:
            yield first
            for progress in self._chunks(session, video, first):
                yield progress
        except BaseException as error:
            # The model may have continued after the last chunk that was kept.
            session.broken = True
            session.problem = failure(error) if isinstance(error, Exception) else ""
            raise
        else:
            self._update_latency(session.request, progress)
        finally:
            session.abandoned.set()
            session.running = False
            session.broken |= leased()
            session.tail = session.muxer.finish()
            video.close(session.tail)
        yield progress.ended(session.problem)

    def _chunks(self, session: Session, video: Video, progress: Progress) -> Iterator[Progress]:
        """Add the model's chunks to the video and yield the progress after each."""
        muxer, offset, started = session.muxer, session.muxer.seconds, None
        for chunk in self.model.chunks(
            session.request, session.state, session.stop, session.abandoned
        ):
            video.append(muxer.add(chunk.frames, chunk.sound))
            now, made = time.perf_counter(), muxer.seconds
            # The time starts with the first chunk: waiting for other visitors does not count.
            started = started or now - chunk.seconds_spent
            if made < CHUNK_SECONDS and len(chunk.frames) < FRAMES_PER_CHUNK:
                continue  # Half a chunk is there to be seen; no rate follows from it.
            rate = (made - offset) / max(1e-6, now - started)
            total = f"{progress.seconds:.1f}"
            status = say("stream.progress", made=f"{made:.1f}", total=total)
            progress = progress.after(chunk, made, rate, status)
            session.problem = self.limits.exceeded_work(now - started)
            if session.problem:
                session.stop.set()
            yield progress

    def _update_latency(self, request: GenerationRequest, progress: Progress) -> None:
        # Other programs may slow the machine down or stop doing so after the measurement.
        if progress.rate:
            self.latency = self.latency.after(request, CHUNK_SECONDS / progress.rate)

    def _first_progress(self, session: Session, video: Video) -> Progress:
        request, continues = session.request, bool(session.film.size)
        expected = self.latency.chunk_seconds(request)
        seconds = session.state.total * CHUNK_SECONDS
        seconds = min(seconds, session.limit or seconds)
        rate = CHUNK_SECONDS / expected if expected else 1.0
        first = Progress.start(video, session.muxer, request, seconds)
        return replace(first, continues=continues, expected_rate=rate)

    def _check(self, request: GenerationRequest, chunks: int) -> None:
        self.limits.check_seconds(_requested_seconds(request) or chunks * CHUNK_SECONDS)
        work = self.latency.overhead + chunks * self.latency.chunk_seconds(request)
        self.limits.check_work(work)


def _requested_seconds(request: GenerationRequest) -> float | None:
    """Return the length that the video shall have, or None if the words decide."""
    if request.seconds is None and request.audio is not None:
        return len(request.audio) / SAMPLE_RATE
    return request.seconds


def _bytes_of(session: Session) -> int:
    """Return the size of the pictures, maps and sounds that a session holds."""
    request = session.request
    sounds = (request.audio, request.heard)
    held = request.image.nbytes + session.state.nbytes
    return held + sum(sound.nbytes for sound in sounds if sound is not None)


def _close_at_exit(sessions: SessionManager) -> None:
    """Close a manager that nobody closed, so that its threads end before the interpreter does."""
    reference = weakref.ref(sessions)

    def close() -> None:
        alive = reference()
        if alive:
            alive.close()

    atexit.register(close)


def _remove(path: Path | None) -> None:
    if path:
        path.unlink(missing_ok=True)
