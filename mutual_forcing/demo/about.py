"""The About tab: facts about the checkpoint, its model card and its training record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import mutual_forcing
from mutual_forcing.canvas import LONGEST, SMALLEST
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.types import MAX_SIZE

from . import spoken
from .texts import say
from .texts import text as t

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

_MAX_CHARACTERS = 100_000
_IMAGE = re.compile(
    r"!\[(?P<text>[^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?|<(?:img|source)\b[^>]*>", re.IGNORECASE
)
"""Pictures of a model card: the visitor's browser would fetch them from wherever the card's author likes."""
_PAPER = "https://arxiv.org/abs/2604.25819"
_LIMITS = (
    "about.limit-seen", "about.limit-sound", "about.limit-style", "about.limit-real",
)  # fmt: skip
_SOURCES = (
    "about.source-heads", "about.source-voices", "about.source-words", "about.source-code",
)  # fmt: skip


def build(generator: StreamingGenerator) -> None:
    """Build the tab's content inside the open `gr.Tab`."""
    front, card = model_card(generator.system.folder)
    record = training_record(generator.system.folder)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            gr.HTML(_section("about.checkpoint", facts_html(generator, front)))
            gr.HTML(_section("about.limits", limits_html(generator)))
        with gr.Column(scale=5, min_width=320):
            gr.HTML(_section("about.card", ""))
            gr.Markdown(card or t("about.no-card"), elem_id="model-card")
            gr.HTML(_section("about.sources", sources_html()))
    gr.HTML(_section("about.training", record_html(record)), elem_id="training-record")


def model_card(folder: Path | None) -> tuple[dict[str, str], str]:
    """Return the front matter's plain values and the text of a checkpoint's README.md, if there is one."""
    text = _read(folder, "README.md")
    match = re.match(r"(?:---\n(.*?)\n---\n)?(.*)", text, re.DOTALL)
    assert match is not None, "any text fits"
    front, body = match.groups()
    values = dict(re.findall(r"^(\w+):[ \t]*(\S.*)$", front or "", re.MULTILINE))
    return values, _IMAGE.sub(lambda found: found["text"] or "", body).strip()


def training_record(folder: Path | None) -> dict[str, Any]:
    """Return a checkpoint's record.json; empty when it is missing or not readable."""
    try:
        record = json.loads(_read(folder, "record.json") or "{}")
    except (json.JSONDecodeError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def facts_html(generator: StreamingGenerator, front: Mapping[str, str]) -> str:
    """Return the properties of the checkpoint as an HTML list."""
    networks = generator.system.modules.values()
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    output = say(
        "about.output-value", most=MAX_SIZE, fps=FPS, rate=SAMPLE_RATE // 1000,
        chunk=f"{CHUNK_SECONDS:g}",
    )  # fmt: skip
    licence, digest = front.get("license"), generator.system.digest
    facts = {
        "about.name": escape(generator.config.name),
        "about.hash": f"<code>{digest}</code>" if digest else say("about.random").html(),
        "about.output": output.html(),
        "about.parameters": say("about.millions", count=f"{parameters / 1e6:.1f}").html(),
        "about.licence": escape(licence) if licence else say("about.not-said").html(),
        "about.software": f"mutual_forcing {mutual_forcing.__version__}",
        "about.paper": f'<a href="{_PAPER}" target="_blank" rel="noopener">arXiv 2604.25819</a>',
    }
    rows = (
        f"<div><dt>{say(key).html()}</dt><dd>{value}</dd></div>" for key, value in facts.items()
    )
    return f'<dl class="mf-facts">{"".join(rows)}</dl>'


def limits_html(generator: StreamingGenerator) -> str:
    """Return the limitations of every checkpoint as an HTML list."""
    size = say(
        "about.limit-size", most=MAX_SIZE, longest=LONGEST, least=SMALLEST,
        square=generator.square_size,
    )  # fmt: skip
    speaks = spoken.limit(generator)
    return _list([say(_LIMITS[0]), size, speaks, *map(say, _LIMITS[1:])])


def sources_html() -> str:
    """Return the sources and licences of the project's training data as HTML."""
    return f"<p>{say('about.source-note').html()}</p>{_list([say(key) for key in _SOURCES])}"


def record_html(record: Mapping[str, Any]) -> str:
    """Return a training record as an HTML table without the values that it lacks."""
    stages = record.get("stages")
    stages = stages if isinstance(stages, dict) else {}
    plain = {k: v for k, v in record.items() if isinstance(v, (str, int, float))}
    if not stages and not plain:
        return f"<p>{say('about.no-record').html()}</p>"
    general = ", ".join(f"{_words(name)} {_short(value)}" for name, value in plain.items())
    keys = ("about.stage", "about.steps", "about.batch", "about.hours", "about.metrics")
    head = "".join(f'<th scope="col">{say(key).html()}</th>' for key in keys)
    body = "".join(_stage_row(name, s) for name, s in stages.items() if isinstance(s, dict))
    label = say("figure.table").attribute("aria-label")
    table = (
        f'<div class="mf-scroll" tabindex="0" role="group" {label}><table class="mf-table mf-record">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return f"{table if body else ''}<p>{general}</p>"


def _stage_row(name: str, stage: Mapping[str, Any]) -> str:
    numbers = "".join(f"<td>{_short(stage.get(key))}</td>" for key in ("steps", "batch", "hours"))
    metrics = stage.get("metrics")
    measured = metrics.items() if isinstance(metrics, dict) else ()
    chips = " ".join(
        f"<span>{_words(key)} <b>{_short(value)}</b></span>" for key, value in measured
    )
    return f'<tr><th scope="row">{_words(name)}</th>{numbers}<td class="mf-chips">{chips}</td></tr>'


def _section(key: str, html: str) -> str:
    return f'<section class="mf-about"><h2>{say(key).html()}</h2>{html}</section>'


def _list(phrases: list[Any]) -> str:
    return f"<ul>{''.join(f'<li>{phrase.html()}</li>' for phrase in phrases)}</ul>"


def _words(name: str) -> str:
    return escape(str(name).removeprefix("heldout/").replace("_", " "))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else escape(str(value))


def _read(folder: Path | None, name: str) -> str:
    """Return the text of a checkpoint's file; empty when it cannot be read."""
    if folder is None:
        return ""
    path = (folder / name).resolve()
    # The Hub's cache links files to those of its folder blobs; other links lead out of a checkpoint.
    inside = (folder.resolve(), folder.resolve().parent.parent / "blobs")
    if not path.is_file() or not any(path.is_relative_to(parent) for parent in inside):
        return ""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_CHARACTERS)
    except OSError:
        return ""
