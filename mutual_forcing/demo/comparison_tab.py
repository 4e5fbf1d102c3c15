"""The layout and the events of the Compare tab."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import gradio as gr

from mutual_forcing.types import GenerationRequest

from . import comparison, framing, inputs, spoken
from .comparison import ComparisonManager, ComparisonRun
from .comparison_grid import write_grid
from .comparison_tracks import tracks_html
from .comparison_view import player_message, plots_html, table_html
from .components import MODEL, QUIET, character, number, read, session_id_of, style, user_errors
from .inputs import AUTOMATIC, DRIVES, SIZE, WHOLE, Form, slow_size
from .leaving import Departure, while_there
from .limits import Limits
from .progress import failed_message, failure
from .rate_limit import departure_of
from .sessions import SessionManager
from .texts import Phrase, say
from .texts import text as t

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

log = logging.getLogger(__name__)
_TEXT = "How many steps does it take to say this well?"


@dataclass(frozen=True)
class _Fields:
    """The components of the request in the order of the events' arguments."""

    picture: gr.components.Component
    text: gr.components.Component
    steps: gr.components.Component
    emotion: gr.components.Component
    motion: gr.components.Component
    seed: gr.components.Component
    guidance: gr.components.Component
    seconds: gr.components.Component
    size: gr.components.Component
    framing: gr.components.Component
    face: gr.components.Component
    language: gr.components.Component | None

    @property
    def all(self) -> list[gr.components.Component]:
        """Those that there are."""
        fields_ = (getattr(self, f.name) for f in fields(self))
        return [component for component in fields_ if component is not None]


class _Shown(NamedTuple):
    """What tells of the request while it is written."""

    expectation: gr.HTML
    spoken: gr.HTML


@dataclass(frozen=True)
class _Results:
    """The components that a comparison changes, in the order of the events' outputs."""

    player: gr.HTML
    start: gr.Button
    stop: gr.Button
    table: gr.HTML
    plots: gr.HTML
    tracks: gr.HTML
    grid: gr.DownloadButton
    numbers: gr.DownloadButton


def build(demo: gr.Blocks, sessions: SessionManager) -> None:
    """Build the tab's content inside the open `gr.Tab` and connect its events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            asked, shown, look = _request_column(sessions.generator)
        with gr.Column(scale=6, min_width=320):
            results = _result_column()
    _connect(demo, ComparisonManager(sessions), asked, results)
    framing.connect(sessions, asked.picture, look)
    _connect_expectation(demo, sessions, asked, shown)
    spoken.connect(sessions, asked.text, shown.spoken, asked.language)


def _request_column(
    generator: StreamingGenerator,
) -> tuple[_Fields, _Shown, framing.FramingControls]:
    picture = character("compare-character", "compare-characters")
    look = framing.build("compare")
    with gr.Group():
        text = gr.Textbox(
            _TEXT, label=t("ask.text"), lines=2, max_lines=6, max_length=inputs.MAX_TEXT,
            placeholder=spoken.placeholder(generator), elem_id="compare-text",
        )  # fmt: skip
        line = spoken.build("compare-text")
    with gr.Group():
        steps = gr.CheckboxGroup(
            [(str(n), n) for n in comparison.CHOICES if n <= generator.max_steps],
            value=list(comparison.DEFAULT_STEPS), label=t("ask.steps"), elem_id="compare-steps",
            info=t("ask.steps-compare"),
        )  # fmt: skip
        expectation = gr.HTML(_line(say("expect.measuring").html()), elem_id="compare-expect")
    emotion, motion = style("compare")
    with gr.Accordion(t("ask.advanced"), open=False):
        with gr.Row():
            seed = number(t("ask.seed"), t("ask.seed-variants"), precision=0)
            guidance = number(t("ask.guidance"), t("ask.guidance-info"))
            seconds = number(t("ask.seconds"), t("ask.seconds-info"))
        language = spoken.language_choice(generator, "compare")
    size, shape, face = look.fields
    fields = _Fields(
        picture, text, steps, emotion, motion, seed, guidance, seconds, size, shape, face, language
    )
    return fields, _Shown(expectation, line), look


def _result_column() -> _Results:
    player = gr.HTML(
        value="", html_template=read("comparison.html"), css_template=read("comparison.css"),
        js_on_load=read("comparison.js"), elem_id="compare-player",
    )  # fmt: skip
    with gr.Row(elem_classes="mf-actions"):
        start = gr.Button(
            t("do.compare"), variant="primary", scale=3, min_width=160, elem_id="compare-button",
            elem_classes="mf-big",
        )  # fmt: skip
        stop = gr.Button(
            t("do.stop"), variant="stop", scale=1, min_width=90, interactive=False,
            elem_id="compare-stop", elem_classes="mf-big",
        )  # fmt: skip
    table = gr.HTML(visible=False, elem_id="compare-table")
    tracks = gr.HTML(visible=False, elem_id="compare-tracks")
    plots = gr.HTML(visible=False, elem_id="compare-plots")
    with gr.Row():
        # Gradio translates these labels as well, but its annotation is `str`.
        grid_label, numbers_label = cast("str", t("result.grid")), cast("str", t("result.csv"))
        grid = gr.DownloadButton(grid_label, visible=False, elem_id="compare-grid")
        numbers = gr.DownloadButton(numbers_label, visible=False, elem_id="compare-csv")
    return _Results(player, start, stop, table, plots, tracks, grid, numbers)


def _connect(
    demo: gr.Blocks, comparisons: ComparisonManager, asked: _Fields, results: _Results
) -> None:
    inputs_ = asked.all
    outputs = [getattr(results, f.name) for f in fields(results)]
    on_page, compare = _endpoints(comparisons)
    event = results.start.click(on_page, inputs_, outputs, api_visibility="private", **MODEL)
    event.failure(_failed, outputs=outputs[:3], **QUIET)
    files = [
        gr.File(visible=False, label="All variants (MP4), or nothing where it cannot be written"),
        gr.File(visible=False, label="Figures (CSV)"),
        gr.JSON(visible=False, label="Figures"),
    ]
    gr.Button(visible=False).click(compare, inputs_, files, api_name="compare", **MODEL)

    def stop(request: gr.Request) -> None:
        comparisons.stop(session_id_of(request))

    def forget(request: gr.Request) -> None:
        comparisons.forget(session_id_of(request))

    results.stop.click(stop, **QUIET)
    demo.unload(forget)


def _endpoints(comparisons: ComparisonManager) -> tuple[Callable, Callable]:
    def on_page(request: gr.Request, *values: Any) -> Iterator[tuple]:
        with user_errors():
            job = _job(comparisons.sessions.limits, session_id_of(request), *values)
            yield from _show(comparisons, job, departure_of(request))

    def compare(
        picture: str, text: str, steps: list[int], emotion: str, motion: str,
        seed: float, guidance: float, seconds: float, request: gr.Request, size: float = SIZE,
        framing: str = WHOLE, face: float = 1, language: str = AUTOMATIC,
    ) -> tuple[str | None, str, list[dict[str, Any]]]:  # fmt: skip
        """Make the same film with each number of steps.

        Returns the variants side by side as one MP4, the figures as CSV, and as a list of rows.

        Args:
            picture: an uploaded picture of the character.
            text: what they say; every row names as "unspoken" what of it cannot be spoken.
            steps: up to 6 of the listed numbers of denoising steps a chunk; one variant each.
            emotion: one of the listed emotions.
            motion: one of the listed kinds of motion.
            seed: a whole number from 0, the same for all variants.
            guidance: Multi mode's guidance, 1 to 10; 0 for the default.
            seconds: length of the films; 0 for as long as the words need.
            size: pixels on the films' shorter side, one of those listed; never beyond the picture's own.
            framing: "whole" for films of the whole picture, "face" for a square around the face.
            face: which of several faces talks, from the largest, 1, to the smallest.
            language: of the text, where the checkpoint speaks several: "auto", "en" or "ja".
        """
        with user_errors():
            asked = (picture, text, steps, emotion, motion, seed, guidance, seconds)
            limits = comparisons.sessions.limits
            job = _job(limits, session_id_of(request), *asked, size, framing, face, language)
            run = _run_to_end(comparisons, job, departure_of(request))
        unspoken = _unspoken(comparisons, run)
        rows = [{**comparison.rounded(row), "unspoken": unspoken} for row in run.metrics]
        if not rows:
            stopped = "The comparison was stopped before its first variant was finished."
            raise gr.Error(run.problem or stopped, print_exception=False)
        grid = _grid_or_none(comparisons, run)
        return (str(grid) if grid else None), str(_write_csv(run)), rows

    return on_page, compare


class _Job(NamedTuple):
    """The arguments of ComparisonManager.run."""

    session_id: str
    request: GenerationRequest
    counts: list[int]
    face: int = 1


def _job(limits: Limits, session_id: str, *values: Any) -> _Job:
    form, counts = _form(*values)
    return _Job(session_id, form.request(limits), counts, form.face_number())


def _updates(
    comparisons: ComparisonManager, job: _Job, departure: Departure
) -> Generator[ComparisonRun, None, None]:
    """Make the variants while the client is there."""
    return while_there(departure, comparisons.run(*job), lambda: comparisons.forget(job.session_id))


def _run_to_end(comparisons: ComparisonManager, job: _Job, departure: Departure) -> ComparisonRun:
    """Make all variants. After a failure, the finished ones are returned with the problem."""
    run = None
    try:
        for update in _updates(comparisons, job, departure):
            run = update
    except ValueError:
        raise
    except Exception as error:
        log.exception("A comparison failed.")
        if run is None:
            raise ValueError(failure(error)) from error
        run.problem = failure(error)
    assert run is not None
    return run


def _form(
    picture: str | None, text: str, steps: list[int], emotion: str, motion: str, seed: float,
    guidance: float, seconds: float, size: float = SIZE, framing: str = WHOLE, face: float = 1,
    language: str = AUTOMATIC,
) -> tuple[Form, list[int]]:  # fmt: skip
    counts = comparison.step_counts(steps)
    form = Form(
        picture=picture, text=text, sound=None, sound_use=DRIVES, emotion=emotion, motion=motion,
        steps=counts[0], seed=seed, guidance=guidance, seconds=seconds, window=0, size=size,
        framing=framing, face=face, language=language,
    )  # fmt: skip
    return form, counts


def _too_large(sessions: SessionManager, request: GenerationRequest, counts: list[int]) -> str:
    """Return a warning as HTML if not even the fastest variant can be made in real time."""
    slow = slow_size(sessions.latency, replace(request, steps=min(counts)))
    return slow.html() if isinstance(slow, Phrase) else ""


def _show(comparisons: ComparisonManager, job: _Job, departure: Departure) -> Iterator[tuple]:
    """Yield the outputs of the page while the variants are made; finished ones are always kept."""
    run, shown = None, -1
    try:
        with closing(_updates(comparisons, job, departure)) as updates:
            for run in updates:
                new = len(run.metrics) != shown
                shown = len(run.metrics)
                yield _outputs(run, running=True, figures=new)
    except ValueError:
        raise
    except Exception as error:
        log.exception("A comparison failed.")
        if run is None or not run.metrics:
            raise gr.Error(failure(error), print_exception=False) from error
        run.problem = f"{failure(error)} The variants that were finished are kept."
    if run is None or not run.folder.is_dir():  # The visitor has left.
        return
    if run.problem:
        gr.Warning(run.problem)
    if not run.metrics:
        yield _outputs(run, running=False, status=say("compare.stopped"))
        return
    numbers = _write_csv(run)
    yield _outputs(run, True, status=say("compare.filming"), numbers=numbers)
    grid = _grid_or_none(comparisons, run)
    summary = say("compare.summary", count=len(run.metrics), seed=run.request.seed)
    status = summary if grid else say("compare.no-film")
    yield _outputs(run, False, status=status, numbers=numbers, grid=grid)


def _outputs(
    run: ComparisonRun,
    running: bool,
    status: str = "",
    figures: bool = False,
    numbers: Path | None = None,
    grid: Path | None = None,
) -> tuple:
    table = plots = tracks = gr.skip()
    if figures:
        rows = run.metrics
        table = gr.update(value=table_html(rows), visible=bool(rows))
        plots = gr.update(value=plots_html(rows), visible=len(rows) > 1)
        lines = tracks_html(run.finished)
        tracks = gr.update(value=lines, visible=bool(lines))
    kept = gr.update(visible=False) if figures and not run.metrics else gr.skip()
    return (
        player_message(run, status),
        gr.update(interactive=not running),
        gr.update(interactive=running),
        table,
        plots,
        tracks,
        gr.update(value=str(grid), visible=True) if grid else kept,
        gr.update(value=str(numbers), visible=True) if numbers else kept,
    )


def _failed() -> tuple[str, Any, Any]:
    return failed_message(), gr.update(interactive=True), gr.update(interactive=False)


def _unspoken(comparisons: ComparisonManager, run: ComparisonRun) -> list[str]:
    """Return the parts of the text that no variant says, as typed."""
    reading = comparisons.sessions.generator.preview(run.request.text, run.request.language)
    return list(reading.unspoken)


def _write_csv(run: ComparisonRun) -> Path:
    path = run.folder / "mutual-forcing-comparison.csv"
    path.write_text(comparison.to_csv(run.metrics), encoding="utf-8")
    return path


def _grid_or_none(comparisons: ComparisonManager, run: ComparisonRun) -> Path | None:
    """Return the video of all variants, or None if ffmpeg is missing or fails."""
    try:
        return _grid(comparisons, run)
    except (OSError, RuntimeError, ImportError, ValueError):
        log.exception("The video of all variants could not be written.")
        return None


def _grid(comparisons: ComparisonManager, run: ComparisonRun) -> Path:
    request, generator = run.request, comparisons.sessions.generator
    path = run.folder / "mutual-forcing-comparison.mp4"
    settings = {
        "text": request.text,
        "language": request.language,
        "unspoken": _unspoken(comparisons, run),
        "caption": request.caption,
        "steps": [row.steps for row in run.metrics],
        "seed": request.seed,
        "size": request.size,
        "framing": request.framing,
        "face": run.face,
        "model": generator.config.name,
        "checkpoint": generator.system.digest,
        **({"ended_early": run.problem} if run.problem else {}),
    }
    write_grid(path, run.finished, settings)
    return path


def _connect_expectation(
    demo: gr.Blocks, sessions: SessionManager, asked: _Fields, shown: _Shown
) -> None:
    def expect(*values: Any) -> str:
        try:
            form, counts = _form(*values)
        except ValueError as error:
            return _line(escape(str(error)))
        try:
            request = form.planned(sessions.limits)
            seconds = comparison.expected_seconds(sessions, request, counts)
        except ValueError as error:
            told = str(error) == spoken.problem(sessions, form.text or "", form.language)
            return _line("" if told else escape(str(error)))
        if not seconds:
            return _line(say("expect.measuring").html())
        expected = say("expect.variants", count=len(counts), seconds=f"{seconds:.0f}")
        return _line(f"{expected.html()} {_too_large(sessions, request, counts)}")

    def tick(*values: Any) -> tuple[str, gr.Timer]:
        return expect(*values), gr.Timer(active=not sessions.latency.known)

    components, expectation = asked.all, shown.expectation
    timer = gr.Timer(2)
    timer.tick(tick, components, [expectation, timer], **QUIET)
    followed = (
        asked.picture, asked.text, asked.steps, asked.guidance, asked.seconds, asked.size, asked.framing,
        asked.face, *([asked.language] if asked.language else []),
    )  # fmt: skip
    changes = [field.change for field in followed]  # pyright: ignore[reportAttributeAccessIssue] # set at run time
    gr.on(
        [demo.load, *changes], expect, components, expectation, trigger_mode="always_last",
        **QUIET,
    )  # fmt: skip


def _line(html: str) -> str:
    return f'<div class="mf-preflight" role="status"><span>{html}</span></div>'
