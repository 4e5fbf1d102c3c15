"""Converts the fields of a request to JSON or to a link and back.

Uploaded files are not part of it. Pictures and voices that come with the page are named.
"""

from __future__ import annotations

import filecmp
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import gradio as gr

from mutual_forcing.media import MediaError
from mutual_forcing.text.captions import EMOTIONS, MOTIONS
from mutual_forcing.text.inventory import LANGUAGE_CHOICES
from mutual_forcing.types import FRAMINGS, MAX_SECONDS, MAX_STEPS, MIN_SIZE

from . import components
from .cage import read_comment
from .components import QUIET
from .inputs import AUTOMATIC, DRIVES, LENDS, MAX_TEXT, SIZE, SIZES, WHOLE, Form, style_of
from .pictures import MAX_FACES
from .sessions import SessionManager
from .texts import text as t

NAMES = (
    "text", "sound_use", "emotion", "motion", "steps", "seed", "guidance", "seconds", "window", "size",
    "framing", "face", "language",
)  # fmt: skip
"""The fields of a Form that the settings contain unchanged."""
BUNDLED = {"character": "picture", "voice": "sound"}
"""Names in the settings for files that come with the page, and the fields of a Form for their paths."""
_CHOICES = {
    "sound_use": (DRIVES, LENDS),
    "emotion": tuple(EMOTIONS),
    "motion": tuple(MOTIONS),
    "framing": FRAMINGS,
    "language": LANGUAGE_CHOICES,
}
_MOST = {
    "steps": MAX_STEPS, "seed": 2**53, "guidance": 10, "seconds": MAX_SECONDS, "window": 64,
    "size": max(SIZES), "face": MAX_FACES,
}  # fmt: skip
_LEAST = {"steps": 1, "size": MIN_SIZE, "face": 1}
_WHOLE = ("steps", "seed", "window", "size", "face")
_MAX_JSON = 64 * 1024
_FOREIGN = "These are no settings of a run."


def to_json(form: Form, checkpoint: str = "") -> str:
    """Return the settings and the digest of the checkpoint as JSON."""
    values: dict[str, Any] = {name: getattr(form, name) for name in NAMES}
    look = {"size": form.size or SIZE, "framing": form.framing or WHOLE, "face": form.face or 1}
    look["language"] = form.language or AUTOMATIC
    values = {**values, **look, **_bundled_files(form), "checkpoint": checkpoint}
    return json.dumps(values, ensure_ascii=False, indent=1)


def from_json(text: str) -> dict[str, Any]:
    """Return the form's values, and "checkpoint" if it is given, from JSON.

    The text is the result of `to_json` or the comment in a video's metadata. Unknown names and files that
    this page does not have are ignored. Raises ValueError with one sentence for anything else.
    """
    if len(text) > _MAX_JSON:
        raise ValueError(_FOREIGN)
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(_FOREIGN) from error
    if not isinstance(values, dict):
        raise ValueError(_FOREIGN)
    return _checked(_renamed(values))


def from_file(path: str | Path) -> dict[str, Any]:
    """Return the settings in a video that was made here or in a JSON file; raises ValueError."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(_MAX_JSON + 1)
        if start[:1] in (b"{", b" ", b"\n", b"\xef"):
            return from_json(start.decode("utf-8-sig"))
        comment = read_comment(path)
    except (OSError, UnicodeDecodeError, MediaError) as error:
        raise ValueError(_FOREIGN) from error
    return from_json(comment)


def to_query(form: Form, checkpoint: str = "") -> str:
    """Return the settings as a query such as "?text=Hello.&steps=4"; automatic values are left out."""
    values = {name: getattr(form, name) for name in NAMES}
    values = {**values, **_bundled_files(form), "checkpoint": checkpoint}
    if form.language == AUTOMATIC:
        del values["language"]
    return "?" + urlencode({name: value for name, value in values.items() if value})


def from_query(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the form's values from a link's query; raises ValueError for wrong ones."""
    values: dict[str, Any] = {}
    for name in (*NAMES, *BUNDLED, "checkpoint"):
        if name not in parameters:
            continue
        text = str(parameters[name])
        try:
            values[name] = float(text) if name in _MOST else text
        except ValueError as error:
            raise ValueError(f"The link's {name} is not a number.") from error
    return _checked(values)


def panel(fields: list[gr.components.Component], demo: gr.Blocks, sessions: SessionManager) -> None:
    """Build the closed part "Save or restore" for the request's `fields` (in Form's order)."""
    digest = sessions.generator.system.digest
    # Where a checkpoint speaks one language, the last field of a Form is not there.
    targets = {name: fields[_INDEX[name]] for name in _TARGETS if _INDEX[name] < len(fields)}
    with gr.Accordion(t("settings.title"), open=False):
        text = gr.Textbox(
            label=t("settings.text"), lines=4, max_lines=12, buttons=["copy"], elem_id="settings",
            info=t("settings.info"), max_length=_MAX_JSON,
        )  # fmt: skip
        link = gr.Textbox(
            label=t("settings.link"), buttons=["copy"], interactive=False, elem_id="permalink"
        )
        with gr.Row():
            show = gr.Button(t("settings.show"), size="sm", min_width=90)
            restore = gr.Button(t("settings.restore"), size="sm", min_width=90)
            # Gradio translates this label as well, but its annotation is `str`.
            label = cast("str", t("settings.film"))
            upload = gr.UploadButton(label, size="sm", file_types=[".mp4", ".json"], min_width=140)

    def shown(request: gr.Request, *values: Any) -> tuple[str, str]:
        form = Form(*values)
        return to_json(form, digest), _page_address(request) + to_query(form, digest)

    def restored(source: str) -> list[Any]:
        return _updates(lambda: from_json(source or ""), digest, targets)

    def read(path: str | None) -> list[Any]:
        return _updates(lambda: from_file(path or ""), digest, targets)

    def linked(request: gr.Request) -> list[Any]:
        return _updates(lambda: from_query(dict(request.query_params)), digest, targets)

    show.click(shown, fields, [text, link], **QUIET)
    # Queued, unlike the other quick events, because only then warnings reach the page.
    queued = {**QUIET, "queue": True, "concurrency_limit": None}
    outputs = list(targets.values())
    restore.click(restored, text, outputs, **queued)
    upload.upload(read, upload, outputs, **queued)
    demo.load(linked, None, outputs, **queued)


_INDEX = {field.name: index for index, field in enumerate(fields_of(Form))}
_TARGETS = (*NAMES, *BUNDLED.values())


def _page_address(request: gr.Request) -> str:
    referer = request.headers.get("referer", "")
    return referer.split("?")[0].split("#")[0]


def _updates(read: Any, digest: str, names: Iterable[str]) -> list[Any]:
    try:
        values = read()
    except ValueError as error:
        gr.Warning(str(error))
        return [gr.skip() for _ in names]
    made_with = values.get("checkpoint")
    if made_with and digest and made_with != digest:
        gr.Warning("That run used other weights: this one will look and sound different.")
    return [values.get(name, gr.skip()) for name in names]


def _bundled_files(form: Form) -> dict[str, str]:
    """Return the names of the form's files that come with the page."""
    names = {}
    for name, field in BUNDLED.items():
        path = getattr(form, field)
        known = _bundled(name).get(Path(path).name) if path else None
        if known and Path(path).is_file() and filecmp.cmp(known, path, shallow=False):
            names[name] = known.name
    return names


def _bundled(name: str) -> dict[str, Path]:
    """Return the files that come with the page, of a kind in BUNDLED, by their names."""
    if name == "voice":
        found = components.VOICES.glob("*.flac")
    else:
        found = itertools.chain(
            components.CHARACTERS.glob("*.png"), components.SURPRISES.glob("*.webp")
        )
    return {path.name: path for path in found}


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values under a form's names; a video's comment uses those of a request."""
    names = (*NAMES, *BUNDLED, "checkpoint")
    known = {name: values[name] for name in names if name in values}
    if "guidance_scale" in values:
        known.setdefault("guidance", values["guidance_scale"])
    emotion, motion = style_of(str(values.get("caption", "")))
    if emotion and motion:
        known.setdefault("emotion", emotion)
        known.setdefault("motion", motion)
    if not known:
        raise ValueError(_FOREIGN)
    return known


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name in _MOST:
            checked[name] = _number(name, value)
        elif name in _CHOICES:
            if value not in _CHOICES[name]:
                raise ValueError(f"The {name} must be one of: {', '.join(_CHOICES[name])}.")
            checked[name] = value
        elif name in BUNDLED:
            path = _bundled(name).get(value) if isinstance(value, str) else None
            if path:
                checked[BUNDLED[name]] = str(path)
        else:
            if not isinstance(value, str) or len(value) > MAX_TEXT:
                raise ValueError(f"The {name} must be text of at most {MAX_TEXT} characters.")
            checked[name] = value
    return checked


def _number(name: str, value: Any) -> float:
    if value is None:
        value = 0
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    low = _LEAST.get(name, 0)
    if not number or not math.isfinite(value) or not low <= value <= _MOST[name]:
        raise ValueError(f"The {name} must be a number from {low} to {_MOST[name]:g}.")
    if name in _WHOLE:
        if value != int(value):
            raise ValueError(f"The {name} must be a whole number.")
        # Videos from the command line may have any size; the page offers only these.
        return min(SIZES, key=lambda s: abs(s - value)) if name == "size" else int(value)
    return value
