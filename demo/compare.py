"""One request at several step counts: films, timings and figures. No layout here."""

from __future__ import annotations

import csv
import functools
import importlib.util
import io
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from mutual_forcing.canvas import film_size
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import read_audio
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import MAX_STEPS, GenerationRequest

from .films import ROUTE
from .pace import film_of

if TYPE_CHECKING:
    from .studio import Studio

MAX_LANES = 6
DEFAULT_STEPS = (1, 4, 8, 16)
CHOICES = (1, 2, 4, 6, 8, 12, 16, 24, 50)
_KEEP = 16
"""Comparisons whose files are kept: callers of the API do not say when they leave."""
JUDGED = 128
"""Pixels on each side of the pictures that the judges look at."""
_QUIET = 1e-4
"""Below this RMS a ratio of loudness says nothing."""


@dataclass(frozen=True)
class Row:
    """The figures of one lane; None where a figure cannot be had here.

    first_chunk: seconds from the request to the first finished chunk, muxed, without waiting for
    other visitors. real_time: seconds of film made per second once the model works. word_errors:
    errors of pocketsphinx per word. motion: mean difference of successive pictures, 0..255.
    colour_drift: difference of the mean colours of the first and second half, 0..255;
    loudness_drift likewise, in decibels. lip_sync: similarity of mouth and sound above their
    median over other lags, 0 (no relation) to 2.
    """

    steps: int
    mode: str
    nfe_per_chunk: int
    first_chunk: float
    real_time: float
    seconds: float
    word_errors: float | None = None
    motion: float | None = None
    colour_drift: float | None = None
    loudness_drift: float | None = None
    lip_sync: float | None = None


@dataclass(frozen=True)
class Lane:
    """One step count: `row`, `film` (a file) and `path` (its address) are there once it is done."""

    steps: int
    mode: str
    made: float = 0.0
    total: float = 0.0
    state: str = "waiting"
    row: Row | None = None
    film: Path | None = None
    path: str = ""


@dataclass
class Comparison:
    """All lanes of one request, in the order of their steps."""

    request: GenerationRequest
    lanes: list[Lane]
    folder: Path
    id: str = ""
    face: int = 1
    """Number of the face that talks, for the settings."""
    stopped: bool = False
    problem: str = ""
    """Why it ended early although nobody stopped it, in one sentence."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def ratio(self) -> float:
        """Width of the films over their height."""
        film = film_of(self.request)
        return film.width / film.height

    @property
    def finished(self) -> list[Lane]:
        """The lanes that can be watched."""
        return [lane for lane in self.lanes if lane.row]

    @property
    def rows(self) -> list[Row]:
        """The figures of the finished lanes."""
        return [lane.row for lane in self.lanes if lane.row]


class Bench:
    """The visitors' comparisons; the films are made by the studio."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._root = tempfile.TemporaryDirectory(prefix="mutual-forcing-compare-")
        self._comparisons: dict[str, Comparison] = {}
        studio.at_close(self.close)

    def close(self) -> None:
        """End everything and remove every file."""
        for visitor in list(self._comparisons):
            self.forget(visitor)
        self._root.cleanup()

    def run(
        self, visitor: str, request: GenerationRequest, steps: Sequence[int], face: int = 1
    ) -> Iterator[Comparison]:
        """Make the lanes one after the other; yields whenever something is new.

        Raises ValueError unless there are 1 to 6 different step counts from 1 to 50, and for what
        would be refused or take too long; the visitor's last comparison is then still there.
        """
        counts = step_counts(steps)
        expected_seconds(self.studio, request, counts)
        self.forget(visitor)
        folder = Path(tempfile.mkdtemp(dir=self._root.name))
        lanes = [Lane(count, mode_name(count)) for count in counts]
        comparison = Comparison(request, lanes, folder, folder.name, face)
        self._comparisons[visitor] = comparison
        for old in list(self._comparisons)[:-_KEEP]:
            self.forget(old)
        for index, count in enumerate(counts):
            if comparison.stopped:
                break
            try:
                for lane in self._lane(visitor, comparison, count):
                    comparison.lanes[index] = lane
                    yield comparison
            except Exception:
                comparison.lanes[index] = replace(comparison.lanes[index], state="stopped")
                raise
        yield comparison

    def stop(self, visitor: str) -> None:
        """End the visitor's comparison; the finished lanes are kept, the one in progress is not."""
        comparison = self._comparisons.get(visitor)
        if comparison:
            comparison.stopped = True
            self.studio.stop(_alias(visitor))

    def forget(self, visitor: str) -> None:
        """Stop what the visitor has running and remove the files."""
        self.stop(visitor)
        comparison = self._comparisons.pop(visitor, None)
        self.studio.forget(_alias(visitor))
        if comparison:
            for lane in comparison.finished:
                self.studio.shelf.drop(lane.path.removeprefix(ROUTE))
            shutil.rmtree(comparison.folder, ignore_errors=True)

    def _lane(self, visitor: str, comparison: Comparison, steps: int) -> Iterator[Lane]:
        request = replace(comparison.request, steps=steps)
        lane = Lane(steps, mode_name(steps), state="making")
        yield lane
        began, prepared, first, last = time.perf_counter(), 0.0, 0.0, None
        with closing(self.studio.begin(_alias(visitor), request, comparison.face)) as stream:
            for progress in stream:
                prepared = prepared or time.perf_counter() - began
                if progress.made and not first:
                    # Not the clock: waiting for other visitors is no property of the steps.
                    first = prepared + progress.made / progress.rate
                lane = replace(lane, made=progress.made, total=progress.seconds)
                last = progress
                self._watch_the_time(comparison)
                if comparison.stopped:  # also if that was said before there was a stream
                    self.studio.stop(_alias(visitor))
                yield lane
        talk = self.studio.talk_of(_alias(visitor))
        if comparison.stopped or talk is None or last is None or not last.made:
            yield replace(lane, state="stopped")
            return
        film = comparison.folder / f"{steps:02d}-steps.mp4"
        shutil.copyfile(self.studio.save(talk), film)
        yield replace(lane, state="listening")
        nfe = Sampler.of(steps, request.guidance_scale).nfe
        words = _spoken_words(talk.state.transcript, last.made)
        figures = judge(film, words, square_in_film(request))
        row = Row(steps, lane.mode, nfe, first, last.rate, last.made, **figures)
        self.studio.forget(_alias(visitor))
        yield replace(lane, state="done", row=row, film=film, path=self._publish(film))

    def _watch_the_time(self, comparison: Comparison) -> None:
        problem = self.studio.limits.worked_off(time.perf_counter() - comparison.began)
        if problem:
            comparison.stopped, comparison.problem = True, problem

    def _publish(self, path: Path) -> str:
        film = self.studio.shelf.new()
        film.append(path.read_bytes())
        film.close()
        return ROUTE + film.id


def step_counts(values: Sequence[Any]) -> list[int]:
    """Return the step counts sorted; raises ValueError unless 1 to 6 different ones from 1 to 50."""
    try:
        numbers = [float(value) for value in values or []]
    except (TypeError, ValueError) as error:
        raise ValueError("The step counts must be whole numbers.") from error
    counts = sorted(set(numbers))
    if not 1 <= len(counts) <= MAX_LANES:
        raise ValueError(f"Choose between 1 and {MAX_LANES} step counts.")
    if any(count != count // 1 or not 1 <= count <= MAX_STEPS for count in counts):
        raise ValueError(f"Each step count must be a whole number between 1 and {MAX_STEPS}.")
    return [int(count) for count in counts]


def mode_name(steps: int) -> str:
    """Return "Few" or "Multi"."""
    return "Few" if Sampler.of(steps).mode == "few" else "Multi"


def expected_seconds(studio: Studio, request: GenerationRequest, steps: Sequence[int]) -> float:
    """Return how long all lanes will take on this machine; 0 while that is not known.

    Raises ValueError for what would be refused: unspeakable text, a film longer than allowed, more
    work than allowed.
    """
    chunks = studio.plan(request).chunks
    if not studio.pace.known:
        return 0.0
    each = [studio.pace.chunk_seconds(replace(request, steps=count)) for count in steps]
    seconds = chunks * sum(each) + len(each) * studio.pace.overhead
    studio.limits.check_work(seconds)
    return seconds


def square_in_film(request: GenerationRequest) -> np.ndarray | None:
    """Return the affine map [2, 3] from the judges' pictures to the film's pixels; None: all of the film."""
    crop, size = request.crop, JUDGED
    if crop is None or request.framing == "face":
        return None
    scale = film_size(request.image.shape, crop, "whole", request.size)[0] / request.image.shape[1]
    turn = np.array(
        [
            [np.cos(crop.angle), -np.sin(crop.angle)],
            [np.sin(crop.angle), np.cos(crop.angle)],
        ]
    )
    linear = scale * crop.side / size * turn
    middle = scale * np.array([crop.x, crop.y]) - 0.5
    return np.column_stack([linear, middle - linear @ np.full(2, (size - 1) / 2)])


def judge(
    film: Path, words: Sequence[str], square: np.ndarray | None = None
) -> dict[str, float | None]:
    """Measure a film with the evaluation's own code; what is not installed here is left out.

    square: where its animated square lies (see `square_in_film`): the rest of the picture stands still.
    """
    if not _judges_are_here():
        return {}
    audio, frames = read_audio_or_silence(film), _frames(film, square)
    figures = {**_drift(frames, audio), "lip_sync": _lip_sync(frames, audio)}
    if words:
        from training.metrics.words import transcribe, word_error_rate

        figures["word_errors"] = word_error_rate(" ".join(words), transcribe(audio))
    return figures


def _judges_are_here() -> bool:
    # A Space has no training package; of a missing package no submodule can be looked for.
    return all(importlib.util.find_spec(name) for name in ("training", "training.metrics"))


def read_audio_or_silence(film: Path) -> np.ndarray:
    """Return the film's sound as float mono 16 kHz; a silent film is no error here."""
    try:
        return read_audio(film)
    except ValueError:
        return np.zeros(SAMPLE_RATE, np.float32)


def to_csv(rows: Sequence[Row]) -> str:
    """Return the figures as comma-separated values with a header; an empty field is unknown."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(row) for row in rows)
    return file.getvalue()


def rounded(row: Row) -> dict[str, Any]:
    """Return the row as plain values, no longer than what was measured deserves."""
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()}


def _drift(frames: np.ndarray, audio: np.ndarray) -> dict[str, float | None]:
    from training.metrics.drift import by_window, describe

    half = len(frames) / FPS / 2
    result: dict[str, float | None] = {"motion": describe(frames, audio)["motion"]}
    halves = list(by_window(frames, audio, (0.0, half, 2 * half)).values())
    if len(halves) == 2:
        first, second = halves
        result["colour_drift"] = abs(second["colour"] - first["colour"])
        if min(first["loudness"], second["loudness"]) > _QUIET:
            ratio = second["loudness"] / first["loudness"]
            result["loudness_drift"] = float(20 * np.log10(ratio))
    return result


def _lip_sync(frames: np.ndarray, audio: np.ndarray) -> float | None:
    """None for a film that is too short to be judged."""
    from training.metrics.sync import embed, score

    # An encoder may cut the last samples.
    padding = max(0, len(frames) * SAMPLE_RATE // FPS - len(audio))
    try:
        return score(*embed(*_lip_judges(), frames, np.pad(audio, (0, padding)))).margin
    except ValueError:
        return None


@functools.lru_cache(maxsize=1)
def _lip_judges() -> tuple[Any, Any]:
    from training.metrics.mouth import load_reader
    from training.metrics.sync import load_pair

    return load_pair(), load_reader()


def _frames(film: Path, square: np.ndarray | None = None) -> np.ndarray:
    """The animated square of every frame, as small as the judges look at it: uint8 [T, 128, 128, 3]."""
    with av.open(str(film)) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return np.stack([_square(frame, square) for frame in frames])


def _square(frame: np.ndarray, square: np.ndarray | None) -> np.ndarray:
    if square is None:
        return cv2.resize(frame, (JUDGED, JUDGED), interpolation=cv2.INTER_AREA)
    # Read finely first, then averaged: a large face is reduced without flicker.
    fine = max(1, math.ceil(float(np.hypot(*square[:, 0]))))
    linear = square[:, :2] / fine
    finer = np.column_stack([linear, square[:, 2] - linear.sum(1) * (fine - 1) / 2])
    large = cv2.warpAffine(
        frame, finer, (JUDGED * fine, JUDGED * fine), borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    return cv2.resize(large, (JUDGED, JUDGED), interpolation=cv2.INTER_AREA)


def _spoken_words(transcript: Any, seconds: float) -> list[str]:
    """The words that end within the film: a wished length may cut the text."""
    return [w.word for w in transcript.words if w.end <= seconds] if transcript else []


def _alias(visitor: str) -> str:
    # A talk of its own beside the visitor's talk on the first tab.
    return f"{visitor}/compare"
