"""The line under a text that says how it will be spoken, and the choice of the text's language.

Nothing here uses the model, so a line needs no place in the queue: it reads one text of bounded length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from .components import QUIET
from .inputs import AUTOMATIC, DRIVES
from .texts import say
from .texts import text as t

if TYPE_CHECKING:
    from gradio.i18n import I18nData

    from mutual_forcing import StreamingGenerator
    from mutual_forcing.text.inventory import LanguageChoice
    from mutual_forcing.text.phonemes import Reading

    from .sessions import SessionManager

_MOST, _LONGEST = 8, 120
"""Parts of a text that a line names, and characters of each."""


def language_choice(generator: StreamingGenerator, name: str) -> gr.Radio | None:
    """Build the choice of the text's language; None where the checkpoint speaks only one.

    It is then no argument of the API either. The id of the element begins with `name`.
    """
    if not _speaks_several(generator):
        return None
    choices = (AUTOMATIC, *generator.languages)
    return gr.Radio(
        [(t(f"language.{choice}"), choice) for choice in choices], value=AUTOMATIC,
        label=t("ask.language"), info=t("ask.language-info"), elem_id=f"{name}-language",
    )  # fmt: skip


def placeholder(generator: StreamingGenerator) -> I18nData:
    """Return what an empty text field asks for."""
    return t("ask.english-or-japanese") if _speaks_several(generator) else t("ask.english")


def next_placeholder(generator: StreamingGenerator) -> I18nData:
    """Return what an empty field for the next text asks for."""
    return t("ask.and-then-any") if _speaks_several(generator) else t("ask.and-then")


def limit(generator: StreamingGenerator) -> str:
    """Return what the checkpoint does not speak, a phrase for the About tab."""
    several = _speaks_several(generator)
    return say("about.limit-languages") if several else say("about.limit-english")


def build(name: str) -> gr.HTML:
    """Build the line, empty at first; the id of its element begins with `name`."""
    return gr.HTML("", visible=False, elem_id=f"{name}-spoken", elem_classes="mf-spoken")


def connect(
    sessions: SessionManager,
    text: gr.components.Component,
    line: gr.HTML,
    language: gr.components.Component | None = None,
    sound: Sequence[gr.components.Component] = (),
    loads: Sequence[Any] = (),
) -> None:
    """Let the line follow the text.

    Args:
        sessions: the text is for its generator.
        text: the field of the text.
        line: from `build`.
        language: the choice of its language, if there is one.
        sound: the fields of a sound and of its use, if there are any: one that drives the lips leaves
            nothing to say.
        loads: more events on which the line is written.
    """

    def preview(text: str | None, *values: Any) -> Any:
        drives = bool(sound) and bool(values[0]) and values[1] == DRIVES
        chosen = values[-1] if language else AUTOMATIC
        html = "" if drives else spoken_html(sessions, text or "", chosen)
        return gr.update(value=html, visible=bool(html))

    fields = [text, *sound, *([language] if language else [])]
    gr.on(
        [*loads, *(field.change for field in fields)],  # pyright: ignore[reportAttributeAccessIssue] # set at run time
        preview, fields, line, trigger_mode="always_last", **QUIET,
    )  # fmt: skip


def spoken_html(sessions: SessionManager, text: str, language: str | None = AUTOMATIC) -> str:
    """Return what of a text is said in other words, and what cannot be said, or why nothing can, as HTML.

    Empty if the text is said as it is typed, and for an empty text.
    """
    if not text.strip():
        return ""
    try:
        reading = _read(sessions, text, language)
    except ValueError as error:
        return _line(f"<span>{escape(str(error))}</span>")
    parts = []
    if reading.changes:
        said = (f"{_cut(typed)} → {_cut(spoken)}" for typed, spoken in reading.changes)
        # What is said may have commas.
        parts.append(say("spoken.said", changes=_listed(said, "; ")).html())
    if reading.unspoken:
        parts.append(say("spoken.not", parts=_listed(map(_cut, reading.unspoken))).html())
    return _line("".join(parts)) if parts else ""


def problem(sessions: SessionManager, text: str, language: str | None = AUTOMATIC) -> str:
    """Return the sentence that the line shows for a text that cannot be said, else an empty one."""
    try:
        if text.strip():
            _read(sessions, text, language)
    except ValueError as error:
        return str(error)
    return ""


def _read(sessions: SessionManager, text: str, language: str | None) -> Reading:
    text = text.strip()  # as a form does, whose reading is then known already
    sessions.limits.check_text(text)
    return sessions.generator.preview(text, cast("LanguageChoice", language or AUTOMATIC))


def _speaks_several(generator: StreamingGenerator) -> bool:
    return len(generator.languages) > 1


def _listed(parts: Iterable[str], between: str = ", ") -> str:
    parts = list(parts)
    return between.join(parts[:_MOST]) + (" …" if len(parts) > _MOST else "")


def _cut(part: str) -> str:
    return part if len(part) <= _LONGEST else f"{part[: _LONGEST - 1].rstrip()}…"


def _line(html: str) -> str:
    return f'<div role="status">{html}</div>'
