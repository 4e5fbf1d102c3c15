"""Generation for the page: a model thread, one talk per visitor, and an honest clock."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.media import StreamMuxer, remux_faststart
from mutual_forcing.types import FEW_MODE_MAX_STEPS, AVChunk, GenerationRequest

from .films import ROUTE, Film, FilmShelf
from .gpu import lease, leased
from .limits import Limits
from .pictures import Familiarity, bundled_characters

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

log = logging.getLogger(__name__)
_WAITING_CHUNKS = 2
"""How far the model may run ahead of the muxer."""
_KEEP_TALKS = 64
_KEEP_CLIPS = 16
CHARACTERS = Path(__file__).resolve().parents[1] / "examples" / "characters"


@dataclass(frozen=True)
class Progress:
    """One message to the player. Each is complete: the page may skip some."""

    id: str
    path: str
    mime: str
    seconds: float
    mode: str
    continues: bool
    expected_rate: float
    status: str = ""
    made: float = 0.0
    fps: float = 0.0
    rate: float = 0.0
    nfe: int = 0
    done: bool = False

    def message(self) -> str:
        """Return what the player's script reads."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Pace:
    """Seconds a chunk takes on this machine: `base` plus so much for each denoising step."""

    base: float = 0.0
    few_step: float = 0.0
    guided_step: float = 0.0
    overhead: float = 0.0
    """Seconds before the first chunk: reading the references."""

    @property
    def known(self) -> bool:
        """Whether it has been measured."""
        return self.base > 0

    def chunk_seconds(self, steps: int, guidance_scale: float | None = None) -> float:
        """Return the expected seconds for one chunk (0.64 s of film)."""
        guided = steps > FEW_MODE_MAX_STEPS and guidance_scale != 1
        return self.base + steps * (self.guided_step if guided else self.few_step)

    def corrected(self, ratio: float) -> Pace:
        """Return the pace after a stream took `ratio` times what was expected: half way there."""
        factor = min(4.0, max(0.25, ratio)) ** 0.5
        return Pace(*(value * factor for value in astuple(self)))


@dataclass
class Talk:
    """What one visitor has made so far, and where the model stands."""

    request: GenerationRequest
    state: StreamState
    muxer: StreamMuxer
    said: list[str]
    parts: list[bytes] = field(default_factory=list)
    tail: bytes = b""
    running: bool = False
    broken: bool = False
    clip: Path | None = None
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
        self.limits = limits or Limits()
        self.shelf = FilmShelf()
        self.pace = Pace()
        self._talks: dict[str, Talk] = {}
        self._model = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="mutual-forcing-clips-")
        self._familiarity: Familiarity | None = None
        self._familiar = threading.Lock()
        self._known = len(list(CHARACTERS.glob("*.png"))) >= 4
        self._released: deque[Path] = deque()
        self._stream = lease(generator.stream)

    def close(self) -> None:
        """End everything and remove every file."""
        for visitor in list(self._talks):
            self.forget(visitor)
        self._folder.cleanup()

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
            _remove(talk.clip)

    def release(self, visitor: str) -> None:
        """Drop the visitor's talk but keep its clip until a few others are finished."""
        talk = self._talks.pop(visitor, None)
        if talk and talk.clip:
            self._released.append(talk.clip)
        while len(self._released) > _KEEP_CLIPS:
            _remove(self._released.popleft())

    def begin(self, visitor: str, request: GenerationRequest) -> Iterator[Progress]:
        """Start a new talk in place of the visitor's last one.

        Raises ValueError for text that cannot be spoken or takes too long; the last talk is then
        still there.
        """
        state = self.generator.start(request)
        self.limits.check_seconds(_wished_seconds(request) or state.total * CHUNK_SECONDS)
        self.forget(visitor)
        size = self.generator.video_size
        muxer = StreamMuxer(size, size, _wished_seconds(request))
        talk = Talk(request, state, muxer, said=[request.text])
        self._talks[visitor] = talk
        for old in list(self._talks)[:-_KEEP_TALKS]:
            self.forget(old)
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
        talk.tail = b""
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

    def distance(self, picture: np.ndarray) -> float:
        """Return how far uint8 RGB [H, W, 3] is from what the checkpoint knows; above 1 is far.

        0 where that is not known: without the bundled characters.
        """
        with self._familiar:
            if self._familiarity is None and self._known:
                self._familiarity = Familiarity(self.generator, bundled_characters(CHARACTERS))
            return self._familiarity.distance(picture) if self._familiarity else 0.0

    def measure_in_background(self) -> None:
        """Time the model, so that the page can say beforehand how long a request takes."""
        threading.Thread(target=self._measure, name="pace", daemon=True).start()

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
        names = ("caption", "steps", "guidance_scale", "seed", "seconds", "window")
        return {
            "text": " ".join(filter(None, talk.said)),
            **{name: getattr(talk.request, name) for name in names},
            "model": self.generator.config.name,
            "checkpoint": self.generator.system.digest,
            **({"ended_early": talk.problem} if talk.problem else {}),
        }

    def _run(self, talk: Talk) -> Iterator[Progress]:
        film = self.shelf.new()
        if talk.parts:
            film.append(talk.muxer.header)
        progress = self._announce(talk, film)
        offset, talk.running = talk.muxer.seconds, True
        try:
            yield progress
            before = None
            for chunk in self._chunks(talk):
                data = talk.muxer.add(chunk.frames, chunk.audio)
                film.append(data)
                talk.parts.append(data)
                now, made = time.perf_counter(), talk.muxer.seconds
                # Waiting for other visitors is no property of the model: count from its start.
                before = before or now - chunk.seconds_spent
                rate = (made - offset) / max(1e-6, now - before)
                progress = _after_chunk(progress, chunk, made, rate)
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
        yield replace(progress, done=True, status=f"{progress.made:.1f} s made.")

    def _learn_pace(self, request: GenerationRequest, progress: Progress) -> None:
        # The machine may have become busier or freer since it was measured.
        if self.pace.known and progress.rate:
            expected = self.pace.chunk_seconds(request.steps, request.guidance_scale)
            self.pace = self.pace.corrected(CHUNK_SECONDS / progress.rate / expected)

    def _announce(self, talk: Talk, film: Film) -> Progress:
        request = talk.request
        expected = self.pace.chunk_seconds(request.steps, request.guidance_scale)
        seconds = talk.state.total * CHUNK_SECONDS
        if not talk.parts:
            seconds = min(seconds, _wished_seconds(request) or seconds)
        name = "Few" if request.mode == "few" else "Multi"
        return Progress(
            id=film.id,
            path=ROUTE + film.id,
            mime=talk.muxer.mime_type,
            seconds=seconds,
            mode=f"{name} mode · {request.steps} step{'s' * (request.steps > 1)}",
            continues=bool(talk.parts),
            expected_rate=CHUNK_SECONDS / expected if expected else 1.0,
        )

    def _chunks(self, talk: Talk) -> Iterator[AVChunk]:
        """Yield the talk's chunks, made by a thread so that model and muxer work side by side."""
        chunks: queue.Queue[AVChunk | Exception | None] = queue.Queue(_WAITING_CHUNKS)
        threading.Thread(target=self._produce, args=(talk, chunks), daemon=True).start()
        while (item := chunks.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def _produce(self, talk: Talk, chunks: queue.Queue) -> None:
        end: Exception | None = None
        abandoned = talk.abandoned
        try:
            with self._model:
                stream = self._stream(talk.request, state=talk.state)
                with contextlib.closing(stream):
                    for chunk in stream:
                        _put(chunks, chunk, abandoned)
                        if talk.stop.is_set() or abandoned.is_set():
                            break
        except Exception as error:
            log.exception("Generation failed.")
            end = error.with_traceback(None)  # which would keep the tensors of its frames
        _put(chunks, end, abandoned)

    def _measure(self) -> None:
        one, few, multi = 1, 4, FEW_MODE_MAX_STEPS + 1
        try:
            self._time_chunk(one)  # the first run also pays for memory and caches
            first, chunk = zip(*(self._time_chunk(n) for n in (one, few, multi)), strict=True)
        except Exception:
            log.exception("The speed of this machine could not be measured.")
            return
        few_step = max(1e-4, (chunk[1] - chunk[0]) / (few - one))
        base = max(1e-3, chunk[0] - few_step)
        guided_step = max(few_step, (chunk[2] - base) / multi)
        self.pace = Pace(base, few_step, guided_step, overhead=max(0.0, first[1] - chunk[1]))

    def _time_chunk(self, steps: int) -> tuple[float, float]:
        """Return the seconds until the first chunk, and those of a later one."""
        picture = np.full((128, 128, 3), 128, np.uint8)
        request = GenerationRequest(
            picture, "one two three four", steps=steps, seconds=4 * CHUNK_SECONDS
        )
        muxer = StreamMuxer(self.generator.video_size, self.generator.video_size)
        with self._model:
            marks = [time.perf_counter()]
            for chunk in self.generator.stream(request):
                muxer.add(chunk.frames, chunk.audio)
                marks.append(time.perf_counter())
        first, *later = np.diff(marks)
        return float(first), float(np.median(later))


def failure(error: Exception) -> str:
    """Return what went wrong as one sentence for the visitor."""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "The machine ran out of memory."
    return f"The generation failed ({type(error).__name__})."


def _wished_seconds(request: GenerationRequest) -> float | None:
    """How long the film shall be, if that is known: chunks only come whole."""
    if request.seconds is None and request.audio is not None:
        return len(request.audio) / SAMPLE_RATE
    return request.seconds


def _after_chunk(progress: Progress, chunk: AVChunk, made: float, rate: float) -> Progress:
    return replace(
        progress,
        made=made,
        rate=rate,
        fps=rate * len(chunk.frames) / CHUNK_SECONDS,
        nfe=chunk.nfe,
        status=f"{made:.1f} of {progress.seconds:.1f} s made.",
    )


def _put(chunks: queue.Queue, item: Any, abandoned: threading.Event) -> None:
    """Wait for room, but not for a reader who has gone."""
    while not abandoned.is_set():
        try:
            chunks.put(item, timeout=0.1)
        except queue.Full:
            continue
        return


def _remove(path: Path | None) -> None:
    if path:
        path.unlink(missing_ok=True)
