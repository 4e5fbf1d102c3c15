"""Comparisons: one request made with several step counts, one variant each. No layout here."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutual_forcing.sampling import Sampler
from mutual_forcing.text.normalise import find_language
from mutual_forcing.types import MAX_STEPS, GenerationRequest

from .comparison_metrics import Measurements, StoppedError, animated_square, measure_video
from .latency import video_size
from .session_store import SessionStore
from .video_store import ROUTE

if TYPE_CHECKING:
    from mutual_forcing.metrics.tracks import Tracks

    from .progress import Progress
    from .sessions import Session, SessionManager

MAX_VARIANTS = 6
DEFAULT_STEPS = (1, 4, 8, 16)
CHOICES = (1, 2, 4, 6, 8, 12, 16, 24, 50)
_MAX_RUNS = 16
"""Number of comparisons whose files are kept."""


@dataclass(frozen=True)
class VariantMetrics:
    """The measurements of one variant. A value that cannot be measured here is None.

    Attributes:
        steps: denoising steps for each chunk.
        mode: "Few" or "Multi".
        nfe_per_chunk: network evaluations for each chunk.
        first_chunk: seconds from the request to the first muxed chunk, without waiting for other
            visitors.
        real_time: seconds of video made per second once the model works.
        seconds: length of the video.
        word_errors: word error rate of pocketsphinx.
        motion: mean difference of successive frames, 0 to 255.
        colour_drift: difference of the mean colours of the first and second half, 0 to 255.
        loudness_drift: loudness of the second half against the first, in decibels.
        lip_sync: similarity of mouth and sound minus the median over other lags; 0 is no relation,
            2 the maximum.
        pitch_spread: standard deviation of the voice's pitch in semitones.
        head_motion: how far the nose is from its mean place, in percent of the face's height.
        naturalness: DistillMOS, 1 to 5, where its package is installed.
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
    pitch_spread: float | None = None
    head_motion: float | None = None
    naturalness: float | None = None


@dataclass(frozen=True)
class Variant:
    """The video for one step count. What follows `state` is set when it is done."""

    steps: int
    mode: str
    made: float = 0.0
    total: float = 0.0
    state: str = "waiting"
    metrics: VariantMetrics | None = None
    heard: tuple[tuple[str, bool], ...] = ()
    """Every word of the text, and whether it was recognised."""
    tracks: Tracks | None = None
    video: Path | None = None
    """The MP4 file."""
    path: str = ""
    """Address of the video on this server."""


@dataclass
class ComparisonRun:
    """All variants of one request, sorted by their steps."""

    request: GenerationRequest
    variants: list[Variant]
    folder: Path
    id: str = ""
    face: int = 1
    """Number of the face that talks, for the settings."""
    stopped: bool = False
    problem: str = ""
    """Why it ended early although nobody stopped it, in one sentence."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def ratio(self) -> float:
        """Width of the videos over their height."""
        size = video_size(self.request)
        return size.width / size.height

    @property
    def finished(self) -> list[Variant]:
        """The variants that can be watched."""
        return [variant for variant in self.variants if variant.metrics]

    @property
    def metrics(self) -> list[VariantMetrics]:
        """The measurements of the finished variants."""
        return [variant.metrics for variant in self.variants if variant.metrics]


class ComparisonManager:
    """Runs the visitors' comparisons, one for each session; the session manager makes the videos."""

    def __init__(self, sessions: SessionManager) -> None:
        self.sessions = sessions
        self._runs = SessionStore[ComparisonRun]("compare", _MAX_RUNS, self._release)
        sessions.at_close(self._runs.close)

    def run(
        self, session_id: str, request: GenerationRequest, steps: Sequence[int], face: int = 1
    ) -> Generator[ComparisonRun, None, None]:
        """Make the variants one after the other; yields whenever something has changed.

        Raises:
            ValueError: there are not 1 to 6 different step counts from 1 to 50, or the request would be
                refused or take too long. The visitor's last comparison is then still there.
        """
        counts = step_counts(steps)
        expected_seconds(self.sessions, request, counts)
        folder = Path(tempfile.mkdtemp(dir=self._runs.folder))
        variants = [Variant(count, mode_name(count)) for count in counts]
        run = ComparisonRun(request, variants, folder, folder.name, face)
        self._runs.put(session_id, run)
        for index, count in enumerate(counts):
            if run.stopped:
                break
            try:
                for variant in self._make_variant(session_id, run, count):
                    run.variants[index] = variant
                    yield run
            except Exception:
                run.variants[index] = replace(run.variants[index], state="stopped")
                raise
        yield run

    def stop(self, session_id: str) -> None:
        """End the visitor's comparison; finished variants are kept, the one in progress is not."""
        run = self._runs.get(session_id)
        if run:
            run.stopped = True
            self.sessions.stop(_variant_session(session_id))

    def forget(self, session_id: str) -> None:
        """End the visitor's comparison and remove its files."""
        self._runs.drop(session_id)
        # A variant may have started after its comparison left the store.
        self.sessions.forget(_variant_session(session_id))

    def _release(self, session_id: str, run: ComparisonRun) -> None:
        run.stopped = True
        self.sessions.forget(_variant_session(session_id))
        for variant in run.finished:
            self.sessions.videos.drop(variant.path.removeprefix(ROUTE))
        shutil.rmtree(run.folder, ignore_errors=True)

    def _make_variant(self, session_id: str, run: ComparisonRun, steps: int) -> Iterator[Variant]:
        request = replace(run.request, steps=steps)
        variant_id = _variant_session(session_id)
        variant = Variant(steps, mode_name(steps), state="making")
        yield variant
        # Or the first variant alone would wait for the picture.
        self.sessions.generator.prepare(request)
        started, prepared, first_chunk, last = time.perf_counter(), 0.0, 0.0, None
        with closing(self.sessions.begin(variant_id, request, run.face)) as stream:
            for progress in stream:
                prepared = prepared or time.perf_counter() - started
                if progress.made and not first_chunk:
                    # Computed from the rate, because the clock would count other visitors' turns.
                    first_chunk = prepared + progress.made / progress.rate
                variant = replace(variant, made=progress.made, total=progress.seconds)
                last = progress
                self._limit_work(run)
                if run.stopped:  # It may have been stopped before the stream existed.
                    self.sessions.stop(variant_id)
                yield variant
        session = self.sessions.session_of(variant_id)
        if run.stopped or session is None or last is None or not last.made:
            yield replace(variant, state="stopped")
            return
        video = run.folder / f"{steps:02d}-steps.mp4"
        shutil.copyfile(self.sessions.save(session), video)
        yield replace(variant, state="measuring")
        try:
            metrics, measured = _measure(session, video, last, first_chunk, lambda: run.stopped)
        except StoppedError:
            video.unlink(missing_ok=True)
            self.sessions.forget(variant_id)
            yield replace(variant, state="stopped")
            return
        self.sessions.forget(variant_id)
        path = self._publish(video)
        yield replace(
            variant, state="done", metrics=metrics, heard=measured.heard, tracks=measured.tracks,
            video=video, path=path,
        )  # fmt: skip

    def _limit_work(self, run: ComparisonRun) -> None:
        problem = self.sessions.limits.exceeded_work(time.perf_counter() - run.started)
        if problem:
            run.stopped, run.problem = True, problem

    def _publish(self, path: Path) -> str:
        """Make a file available on this server and return its address."""
        video = self.sessions.videos.new()
        video.append(path.read_bytes())
        video.close()
        return ROUTE + video.id


def step_counts(values: Sequence[Any]) -> list[int]:
    """Return the step counts sorted; raises ValueError unless 1 to 6 different ones from 1 to 50."""
    try:
        numbers = [float(value) for value in values or []]
    except (TypeError, ValueError) as error:
        raise ValueError("The step counts must be whole numbers.") from error
    counts = sorted(set(numbers))
    if not 1 <= len(counts) <= MAX_VARIANTS:
        raise ValueError(f"Choose between 1 and {MAX_VARIANTS} step counts.")
    if any(count != count // 1 or not 1 <= count <= MAX_STEPS for count in counts):
        raise ValueError(f"Each step count must be a whole number between 1 and {MAX_STEPS}.")
    return [int(count) for count in counts]


def mode_name(steps: int) -> str:
    """Return "Few" or "Multi"."""
    return "Few" if Sampler.of(steps).mode == "few" else "Multi"


def expected_seconds(
    sessions: SessionManager, request: GenerationRequest, steps: Sequence[int]
) -> float:
    """Return how long all variants will take on this machine; 0 while the latency is not known.

    Raises:
        ValueError: the request would be refused, because the text cannot be spoken or the video or the
            work would be longer than allowed.
    """
    chunks = sessions.plan(request).chunks
    latency = sessions.latency
    if not latency.known:
        return 0.0
    each = [latency.chunk_seconds(replace(request, steps=count)) for count in steps]
    seconds = chunks * sum(each) + len(each) * latency.overhead
    sessions.limits.check_work(seconds)
    return seconds


def to_csv(rows: Sequence[VariantMetrics]) -> str:
    """Return the measurements as comma-separated values with a header; unknown values are empty."""
    file = io.StringIO()
    names = [f.name for f in fields(VariantMetrics)]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(row) for row in rows)
    return file.getvalue()


def rounded(row: VariantMetrics) -> dict[str, Any]:
    """Return the measurements as plain values, floats with three decimals."""
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()}


def _measure(
    session: Session,
    video: Path,
    last: Progress,
    first_chunk: float,
    stopped: Callable[[], bool],
) -> tuple[VariantMetrics, Measurements]:
    """Return the measurements of a finished video; `last` is the stream's last progress."""
    request = session.request
    nfe = Sampler.of(request.steps, request.guidance_scale).nfe
    # The recogniser knows English alone.
    english = find_language(request.text, request.language) == "en"
    words = _spoken_words(session.state.transcript, last.made) if english else []
    measured = measure_video(video, words, animated_square(request), stopped)
    metrics = VariantMetrics(
        request.steps, mode_name(request.steps), nfe, first_chunk, last.rate, last.made,
        **measured.figures,
    )  # fmt: skip
    return metrics, measured


def _spoken_words(transcript: Any, seconds: float) -> list[str]:
    """Return the words that end within `seconds`: a requested length may cut the text."""
    return [w.word for w in transcript.words if w.end <= seconds] if transcript else []


def _variant_session(session_id: str) -> str:
    """Return the id of the session that makes variants beside the visitor's own on the Talk tab."""
    return f"{session_id}/compare"
