"""One live stream. It can be changed between chunks and is made only shortly before it is watched."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import StreamMuxer
from mutual_forcing.streaming import AbandonedError
from mutual_forcing.types import MAX_STEPS, AVChunk, GenerationRequest, Steering

from .inputs import caption, style_of
from .progress import Progress, badge, failure
from .texts import say
from .video_store import Video

if TYPE_CHECKING:
    from .model import Model

log = logging.getLogger(__name__)
_LEAD = 0.5
"""Seconds of video that are buffered while the next chunk is made. More would delay changes."""
_LONGEST_LEAD = 3.0


@dataclass(frozen=True)
class LiveLimits:
    """When a stream ends by itself.

    Attributes:
        quiet: seconds without text; long enough to think of a sentence and type it.
        longest: seconds of video.
        minutes: time since the start.
    """

    quiet: float = 30.0
    longest: float = 240.0
    minutes: float = 60.0


@dataclass(frozen=True)
class Moment:
    """One chunk of the timeline: its start in seconds and how it was made."""

    start: float
    steps: int
    mode: str
    style: str
    steering: Steering = field(default_factory=Steering)

    @property
    def asked(self) -> dict[str, float]:
        """What was asked of the face, without what was left to it."""
        return {name: value for name, value in asdict(self.steering).items() if value}

    @property
    def settings(self) -> dict[str, Any]:
        """What of it a visitor chose."""
        chosen = {"steps": self.steps, "caption": self.style}
        return {**chosen, "steering": self.asked} if self.asked else chosen


@dataclass(frozen=True)
class LiveUpdate:
    """A message to the page with the player's progress and the timeline. Each message is complete."""

    progress: Progress
    moments: tuple[Moment, ...] = ()
    words: tuple[tuple[str, float, float], ...] = ()
    planned: float = 0.0
    unspoken: tuple[str, ...] = ()
    """The parts of the texts that cannot be said, as typed."""

    def timeline(self) -> dict[str, Any]:
        """Return chunks [start, steps, mode, style, steering], words [word, start, end], what is not said."""
        return {
            "id": self.progress.id,
            "done": self.progress.done,
            "made": self.progress.made,
            "planned": self.planned,
            "chunk": CHUNK_SECONDS,
            "chunks": [
                [round(m.start, 2), m.steps, m.mode, m.style, m.asked] for m in self.moments
            ],
            "words": [[word, round(a, 2), round(b, 2)] for word, a, b in self.words],
            "unspoken": list(self.unspoken),
        }


class LiveStream:
    """A stream from its request to its end. `say`, `steer`, `pose` and `stop` may come from any thread."""

    def __init__(
        self,
        model: Model,
        video: Video,
        request: GenerationRequest,
        limits: LiveLimits,
        face: int = 1,
    ) -> None:
        """Prepare a stream.

        Args:
            model: generates the chunks.
            video: receives them.
            request: what to generate first.
            limits: when the stream ends by itself.
            face: number of the face that talks, for the settings.

        Raises:
            ValueError: the text cannot be spoken or the face cannot be animated.
        """
        self.moments: list[Moment] = []
        self.said = [request.text.strip()]
        self.running = True
        self.problem = ""
        """Why it failed, in one sentence."""
        self.clip: Path | None = None
        """File of the finished clip."""
        self.video_id = video.id
        self._model, self._video, self._limits = model, video, limits
        self._state = model.generator.start(request)
        self._muxer = StreamMuxer(*self._state.film_size)
        self._face = face
        self._lock = threading.Lock()  # Guards what may be changed between two chunks.
        self._stop, self._abandoned = threading.Event(), threading.Event()
        self._state.abandoned = lambda: self._abandoned.is_set() or model.closed.is_set()
        self._open = 0  # The first chunk that is not yet being made: changes hold from there.
        self._caption: str | None = None
        self._steps: int | None = None
        self._steering: Steering | None = None
        self._quiet = 0.0
        self._started = 0.0
        self._reason = ""

    def updates(self) -> Iterator[LiveUpdate]:
        """Make the stream and yield its updates until it ends. The iterator may be closed early."""
        updates: queue.Queue[LiveUpdate | Exception | None] = queue.Queue()
        threading.Thread(target=self._produce, args=(updates,), daemon=True).start()
        last = self._update(self._first_progress())
        try:
            yield last
            while (item := updates.get()) is not None:
                if isinstance(item, Exception):
                    yield last  # It may have been skipped below.
                    raise item
                last = item
                if updates.empty():  # Updates are complete, so older ones are skipped.
                    yield last
        finally:
            self._stop.set()
        yield self._update(last.progress.ended(self._reason))

    def say(self, text: str) -> float:
        """Append text; return the second of the stream at which it begins.

        Raises ValueError for unspeakable text and beyond the longest stream.
        """
        with self._lock:
            start = self._state.total * CHUNK_SECONDS
            if start > self._limits.longest:
                raise ValueError(_too_long(self._limits))
            self._model.generator.extend(self._state, text)
            self.said.append(text.strip())
        return start

    def steer(self, emotion: str | None, motion: str | None, steps: float | None) -> float:
        """Change the style or the steps; return the second of the stream from which this applies.

        None leaves a value as it is. Raises ValueError for wrong values.
        """
        count = None if steps is None else _step_count(steps, self._model.generator.max_steps)
        with self._lock:
            old_emotion, old_motion = style_of(self._caption or self._state.request.caption)
            self._caption = caption(
                old_emotion if emotion is None else emotion,
                old_motion if motion is None else motion,
            )
            self._steps = count or self._steps
            return self._open * CHUNK_SECONDS

    def pose(self, steering: Steering) -> float:
        """Ask the face for something else; return the second of the stream from which this applies.

        Raises ValueError where the checkpoint has no names for what a face does; the stream goes on.
        """
        self._model.generator.check_steering(steering)
        with self._lock:
            self._steering = steering
            return self._open * CHUNK_SECONDS

    def stop(self, reason: str = "") -> None:
        """End the stream after the chunk in progress; what was made is kept."""
        self._reason = self._reason or reason
        self._stop.set()

    def abandon(self) -> None:
        """End the stream at once: nobody wants the chunk in progress."""
        self._abandoned.set()
        self.stop()

    def data(self) -> Iterator[bytes]:
        """Yield what was made so far: a fragmented MP4, cut anywhere."""
        return self._video.film.blocks()

    def settings(self) -> dict[str, Any]:
        """Return the text and the changes of style and steps as plain values."""
        changes, transcript = self.moments[:1], self._state.transcript
        for moment in self.moments[1:]:
            if moment.settings != changes[-1].settings:
                changes.append(moment)
        return {
            "text": " ".join(self.said),
            "unspoken": list(transcript.unspoken) if transcript else [],
            "seed": self._state.request.seed,
            "size": self._state.request.size,
            "framing": self._state.request.framing,
            "face": self._face,
            **({"ended_early": self.problem} if self.problem else {}),
            "changes": [{"seconds": round(m.start, 2), **m.settings} for m in changes],
        }

    def _produce(self, updates: queue.Queue) -> None:
        end: Exception | None = None
        try:
            with self._model.place():
                self._chunks(updates)
        except AbandonedError:
            log.info("A live stream was given up.")
        except Exception as error:
            log.exception("A live stream failed.")
            end, self.problem = error.with_traceback(None), failure(error)
        finally:
            self.running = False
            with contextlib.suppress(OSError):  # A full disk may be why it ended.
                self._video.append(self._muxer.finish())
            self._video.close()
            self._model.generator.forget(self._state)
            self._free_memory()
        updates.put(end)

    def _free_memory(self) -> None:
        """Drop the large parts of an ended stream's state; updates and settings do not need them."""
        with self._lock:
            state = self._state
            small = replace(state.request, image=np.zeros((16, 16, 3), np.uint8))
            state.request = small
            # A stream that runs has them all; nothing reads them after its end.
            state.references = state.reference = None  # pyright: ignore[reportAttributeAccessIssue]
            state.canvas = state.cache = None  # pyright: ignore[reportAttributeAccessIssue]

    def _chunks(self, updates: queue.Queue) -> None:
        playing: float | None = None
        self._started = time.perf_counter()
        progress = self._first_progress()
        while not self._stop.is_set() and self._prepare():
            started = time.perf_counter()
            chunk = next(self._model.generator.stream(state=self._state))
            self._video.append(self._muxer.add(chunk.frames, chunk.audio))
            now = time.perf_counter()
            self._record(chunk)
            progress = self._after(progress, chunk, now - started)
            updates.put(self._update(progress))
            # When playback started, later by the time for which there was nothing to play.
            playing = max(playing or now, now - progress.made)
            lead = min(_LONGEST_LEAD, _LEAD + 1.3 * (now - started))
            self._stop.wait(progress.made - (now - playing) - lead)

    def _prepare(self) -> bool:
        """Apply the changes for the next chunk; return False when the stream has ended."""
        state, limits, generator = self._state, self._limits, self._model.generator
        with self._lock:
            changed = {"caption": self._caption, "steps": self._steps, "steering": self._steering}
            if any(value is not None for value in changed.values()):
                generator.steer(state, **changed)
                self._caption = self._steps = self._steering = None
            self._open = state.index + 1
            if time.perf_counter() - self._started > 60 * limits.minutes:
                self._reason = say("limit.work", minutes=f"{limits.minutes:g}")
                return False
            if state.index < state.total and state.seconds < limits.longest:
                self._quiet = 0.0
            elif state.seconds >= limits.longest:
                self._reason = _too_long(limits)
                return False
            elif self._quiet >= limits.quiet:
                self._reason = say("live.quiet", seconds=f"{limits.quiet:.0f}")
                return False
            else:
                generator.rest(state)
                self._quiet += CHUNK_SECONDS
        return True

    def _record(self, chunk: AVChunk) -> None:
        request = self._state.request
        with self._lock:
            how = request.steps, request.mode, request.caption, request.steering
            self.moments.append(Moment(chunk.start, *how))

    def _first_progress(self) -> Progress:
        seconds = self._state.total * CHUNK_SECONDS
        return Progress.start(self._video, self._muxer, self._state.request, seconds)

    def _after(self, progress: Progress, chunk: AVChunk, spent: float) -> Progress:
        made, left = self._muxer.seconds, self._limits.quiet - self._quiet
        listening = say("live.listening", seconds=f"{left:.0f}")
        status = listening if self._quiet else say("stream.made", made=f"{made:.1f}")
        seconds = max(made, self._state.total * CHUNK_SECONDS)
        now = replace(progress, seconds=seconds, mode=badge(self._state.request))
        return now.after(chunk, made, CHUNK_SECONDS / spent, status)

    def _update(self, progress: Progress) -> LiveUpdate:
        with self._lock:
            transcript, total = self._state.transcript, self._state.total
            moments = tuple(self.moments)
        words = transcript.words if transcript else ()
        return LiveUpdate(
            progress,
            moments,
            tuple((w.word, w.start, w.end) for w in words),
            max(progress.made, total * CHUNK_SECONDS),
            transcript.unspoken if transcript else (),
        )


def _too_long(limits: LiveLimits) -> str:
    return say("live.too-long", seconds=f"{limits.longest:.0f}")


def _step_count(value: float, limit: int) -> int:
    if value != value or value != value // 1 or not 1 <= value <= min(limit, MAX_STEPS):
        raise ValueError(f"The number of steps must be a whole number from 1 to {limit}.")
    return int(value)
