"""The Compare tab: its layout and its events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mutual_forcing.types import GenerationRequest

from . import compare as lanes
from . import framing, inputs
from .compare import Bench, Comparison
from .compare_grid import write_grid
from .compare_view import player_message, plots_html, table_html
from .inputs import DRIVES, SIZE, WHOLE, Form, slow_size
from .limits import Limits
from .parts import MODEL, QUIET, character, number, polite, read, style, visitor
from .progress import failed_message, failure
from .studio import Studio
from .texts import say
from .texts import text as t

log = logging.getLogger(__name__)
_TEXT = "How many steps does it take to say this well?"


@dataclass(frozen=True)
class _Fields:
    """What is compared: the components in the order of the events' arguments."""

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


@dataclass(frozen=True)
class _Results:
    """What a comparison fills."""

    player: gr.HTML
    start: gr.Button
    stop: gr.Button
    table: gr.HTML
    plots: gr.HTML
    grid: gr.DownloadButton
    numbers: gr.DownloadButton


def build(demo: gr.Blocks, studio: Studio) -> None:
    """Build the tab's content inside the open `gr.Tab`, and wire it."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            asked, expectation, look = _request_column(studio.generator.max_steps)
        with gr.Column(scale=6, min_width=320):
            results = _result_column()
    _wire(demo, Bench(studio), asked, results)
    framing.wire(studio, asked.picture, look)
    _wire_expectation(demo, studio, asked, expectation)


def _request_column(max_steps: int) -> tuple[_Fields, gr.HTML, framing.Look]:
    picture = character("compare-character", "compare-characters")
    look = framing.build("compare")
    text = gr.Textbox(
        _TEXT, label=t("ask.text"), lines=2, max_lines=6, max_length=inputs.MAX_TEXT,
        placeholder=t("ask.english"), elem_id="compare-text",
    )  # fmt: skip
    with gr.Group():
        steps = gr.CheckboxGroup(
            [(str(n), n) for n in lanes.CHOICES if n <= max_steps],
            value=list(lanes.DEFAULT_STEPS), label=t("ask.steps"), elem_id="compare-steps",
            info=t("ask.steps-compare"),
        )  # fmt: skip
        # Gradio describes every choice as a string, which its MCP server then insists on.
        described = {**steps.api_info(), "items": {"type": "integer"}}
        steps.api_info = lambda: described
        expectation = gr.HTML(_line(say("expect.measuring").html()), elem_id="compare-expect")
    emotion, motion = style("compare")
    with gr.Accordion(t("ask.advanced"), open=False), gr.Row():
        seed = number(t("ask.seed"), t("ask.seed-lanes"), precision=0)
        guidance = number(t("ask.guidance"), t("ask.guidance-info"))
        seconds = number(t("ask.seconds"), t("ask.seconds-info"))
    fields = (picture, text, steps, emotion, motion, seed, guidance, seconds, *look.fields)
    return _Fields(*fields), expectation, look


def _result_column() -> _Results:
    player = gr.HTML(
        value="", html_template=read("compare.html"), css_template=read("compare.css"),
        js_on_load=read("compare.js"), elem_id="compare-player",
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
    plots = gr.HTML(visible=False, elem_id="compare-plots")
    with gr.Row():
        grid = gr.DownloadButton(t("result.grid"), visible=False, elem_id="compare-grid")
        numbers = gr.DownloadButton(t("result.csv"), visible=False, elem_id="compare-csv")
    return _Results(player, start, stop, table, plots, grid, numbers)


def _wire(demo: gr.Blocks, bench: Bench, asked: _Fields, results: _Results) -> None:
    inputs_ = [getattr(asked, f.name) for f in fields(asked)]
    outputs = [getattr(results, f.name) for f in fields(results)]
    on_page, compare = _comparisons(bench)
    event = results.start.click(on_page, inputs_, outputs, api_visibility="private", **MODEL)
    event.failure(_failed, outputs=outputs[:3], **QUIET)
    files = [
        gr.File(visible=False, label="All lanes (MP4), or nothing where it cannot be written"),
        gr.File(visible=False, label="Figures (CSV)"),
        gr.JSON(visible=False, label="Figures"),
    ]
    gr.Button(visible=False).click(compare, inputs_, files, api_name="compare", **MODEL)

    def stop(request: gr.Request) -> None:
        bench.stop(visitor(request))

    def forget(request: gr.Request) -> None:
        bench.forget(visitor(request))

    results.stop.click(stop, **QUIET)
    demo.unload(forget)


def _comparisons(bench: Bench) -> tuple[Callable, Callable]:
    def on_page(request: gr.Request, *values: Any) -> Iterator[tuple]:
        with polite():
            wanted = _asked(bench.studio.limits, *values)
            yield from _show(bench, visitor(request), *wanted)

    def compare(
        picture: str, text: str, steps: list[int], emotion: str, motion: str,
        seed: float, guidance: float, seconds: float, request: gr.Request, size: float = SIZE,
        framing: str = WHOLE, face: float = 1,
    ) -> tuple[str | None, str, list[dict[str, Any]]]:  # fmt: skip
        """Make the same film with each number of steps.

        Returns the lanes side by side as one MP4, the figures as CSV, and as a list of rows.

        Args:
            picture: an uploaded picture of the character.
            text: what they say, in English.
            steps: up to 6 of the listed numbers of denoising steps a chunk; one lane each.
            emotion: one of the listed emotions.
            motion: one of the listed kinds of motion.
            seed: a whole number from 0, the same for all lanes.
            guidance: Multi mode's guidance, 1 to 10; 0 for the default.
            seconds: length of the films; 0 for as long as the words need.
            size: pixels on the films' shorter side, one of those listed; never beyond the picture's own.
            framing: "whole" for films of the whole picture, "face" for a square around the face.
            face: which of several faces talks, from the largest, 1, to the smallest.
        """
        with polite():
            asked = (picture, text, steps, emotion, motion, seed, guidance, seconds)
            wanted = _asked(bench.studio.limits, *asked, size, framing, face)
            last = _finished(bench, visitor(request), *wanted)
        rows = [lanes.rounded(row) for row in last.rows]
        if not rows:
            stopped = "The comparison was stopped before its first lane was finished."
            raise gr.Error(last.problem or stopped, print_exception=False)
        grid = _grid_or_none(bench, last)
        return (str(grid) if grid else None), str(_numbers(last)), rows

    return on_page, compare


def _finished(
    bench: Bench, who: str, request: GenerationRequest, counts: list[int], face: int = 1
) -> Comparison:
    """Make all lanes; what was finished before a failure is returned with its problem."""
    comparison = None
    try:
        for so_far in bench.run(who, request, counts, face):
            comparison = so_far
    except ValueError:
        raise
    except Exception as error:
        log.exception("A comparison failed.")
        if comparison is None:
            raise ValueError(failure(error)) from error
        comparison.problem = failure(error)
    assert comparison is not None
    return comparison


def _form(
    picture: str | None, text: str, steps: list[int], emotion: str, motion: str, seed: float,
    guidance: float, seconds: float, size: float = SIZE, framing: str = WHOLE, face: float = 1,
) -> tuple[Form, list[int]]:  # fmt: skip
    counts = lanes.step_counts(steps)
    form = Form(
        picture=picture, text=text, sound=None, sound_use=DRIVES, emotion=emotion, motion=motion,
        steps=counts[0], seed=seed, guidance=guidance, seconds=seconds, window=0, size=size,
        framing=framing, face=face,
    )  # fmt: skip
    return form, counts


def _asked(limits: Limits, *values: Any) -> tuple[GenerationRequest, list[int], int]:
    """The request, its step counts and the number of the face."""
    form, counts = _form(*values)
    return form.request(limits), counts, form.face_number()


def _too_large(studio: Studio, request: GenerationRequest, counts: list[int]) -> str:
    """What to say of a size that is too large for the fastest lane to be made in real time, as HTML."""
    slow = slow_size(studio.pace, replace(request, steps=min(counts)))
    return slow.html() if slow else ""


def _show(
    bench: Bench, who: str, request: GenerationRequest, counts: list[int], face: int
) -> Iterator[tuple]:
    """Yield the page's outputs while lanes grow; whatever happens, the finished ones are kept."""
    comparison, shown = None, -1
    try:
        with closing(bench.run(who, request, counts, face)) as stream:
            for comparison in stream:
                new = len(comparison.rows) != shown
                shown = len(comparison.rows)
                yield _outputs(comparison, running=True, figures=new)
    except ValueError:
        raise
    except Exception as error:
        log.exception("A comparison failed.")
        if comparison is None or not comparison.rows:
            raise gr.Error(failure(error), print_exception=False) from error
        comparison.problem = f"{failure(error)} The lanes that were finished are kept."
    if comparison is None or not comparison.folder.is_dir():  # the visitor has gone
        return
    if comparison.problem:
        gr.Warning(comparison.problem)
    if not comparison.rows:
        yield _outputs(comparison, running=False, status=say("compare.stopped"))
        return
    numbers = _numbers(comparison)
    yield _outputs(comparison, True, status=say("compare.filming"), numbers=numbers)
    grid = _grid_or_none(bench, comparison)
    status = _summary(comparison) if grid else say("compare.no-film")
    yield _outputs(comparison, False, status=status, numbers=numbers, grid=grid)


def _outputs(
    comparison: Comparison,
    running: bool,
    status: str = "",
    figures: bool = False,
    numbers: Path | None = None,
    grid: Path | None = None,
) -> tuple:
    table = plots = gr.skip()
    if figures:
        rows = comparison.rows
        table = gr.update(value=table_html(rows), visible=bool(rows))
        plots = gr.update(value=plots_html(rows), visible=len(rows) > 1)
    kept = gr.update(visible=False) if figures and not comparison.rows else gr.skip()
    return (
        player_message(comparison, status),
        gr.update(interactive=not running),
        gr.update(interactive=running),
        table,
        plots,
        gr.update(value=str(grid), visible=True) if grid else kept,
        gr.update(value=str(numbers), visible=True) if numbers else kept,
    )


def _summary(comparison: Comparison) -> str:
    return say("compare.summary", count=len(comparison.rows), seed=comparison.request.seed)


def _failed() -> tuple[str, Any, Any]:
    return failed_message(), gr.update(interactive=True), gr.update(interactive=False)


def _numbers(comparison: Comparison) -> Path:
    path = comparison.folder / "mutual-forcing-comparison.csv"
    path.write_text(lanes.to_csv(comparison.rows), encoding="utf-8")
    return path


def _grid_or_none(bench: Bench, comparison: Comparison) -> Path | None:
    """The film of all lanes; without it, because ffmpeg is missing or fails, the rest still counts."""
    try:
        return _grid(bench, comparison)
    except (OSError, RuntimeError, ImportError, ValueError):
        log.exception("The film of all lanes could not be written.")
        return None


def _grid(bench: Bench, comparison: Comparison) -> Path:
    request, generator = comparison.request, bench.studio.generator
    path = comparison.folder / "mutual-forcing-comparison.mp4"
    settings = {
        "text": request.text,
        "caption": request.caption,
        "steps": [row.steps for row in comparison.rows],
        "seed": request.seed,
        "size": request.size,
        "framing": request.framing,
        "face": comparison.face,
        "model": generator.config.name,
        "checkpoint": generator.system.digest,
        **({"ended_early": comparison.problem} if comparison.problem else {}),
    }
    write_grid(path, comparison.finished, settings)
    return path


def _wire_expectation(
    demo: gr.Blocks, studio: Studio, asked: _Fields, expectation: gr.HTML
) -> None:
    def expect(*values: Any) -> str:
        try:
            form, counts = _form(*values)
            request = form.planned(studio.limits)
            seconds = lanes.expected_seconds(studio, request, counts)
        except ValueError as error:
            return _line(escape(str(error)))
        if not seconds:
            return _line(say("expect.measuring").html())
        expected = say("expect.lanes", count=len(counts), seconds=f"{seconds:.0f}")
        return _line(f"{expected.html()} {_too_large(studio, request, counts)}")

    def tick(*values: Any) -> tuple[str, gr.Timer]:
        return expect(*values), gr.Timer(active=not studio.pace.known)

    components = [getattr(asked, f.name) for f in fields(asked)]
    timer = gr.Timer(2)
    timer.tick(tick, components, [expectation, timer], **QUIET)
    followed = (
        asked.picture, asked.text, asked.steps, asked.guidance, asked.seconds, asked.size, asked.framing,
        asked.face,
    )  # fmt: skip
    changes = [field.change for field in followed]
    gr.on(
        [demo.load, *changes], expect, components, expectation, trigger_mode="always_last",
        **QUIET,
    )  # fmt: skip


def _line(html: str) -> str:
    return f'<div class="mf-preflight" role="status"><span>{html}</span></div>'
