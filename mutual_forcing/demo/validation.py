"""Validates the values of every event before Gradio or the model use them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio.components.base import Component
from gradio.utils import get_function_params, get_upload_folder

from .texts import english

log = logging.getLogger(__name__)
_FILES = (gr.Image, gr.Audio, gr.Video, gr.File, gr.UploadButton)
_MOST_DIGITS = 2**63
_FILE_ROUTE = "/gradio_api/file="
_UNREADABLE = "The request cannot be read: a value has the wrong type."


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn whatever is wrong with a request's values into a gr.Error with one sentence."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        if not isinstance(error, RefusedError):
            log.info("Refused a request: %s", error)
        message = str(error) if isinstance(error, RefusedError) else _UNREADABLE
        raise gr.Error(message, title="Please check", print_exception=False) from error


def completed(block_fn: Any, values: Any) -> Any:
    """Return the values, with defaults for arguments that an older client does not send.

    Uploads that are named by their address on this page, as MCP clients do, are named by their path.
    """
    if not isinstance(values, list) or block_fn.fn is None:
        return values
    values = [_as_upload(value) for value in values]
    known = get_function_params(block_fn.fn)[len(values) : len(block_fn.inputs)]
    if not all(has_default for _, has_default, _, _ in known):
        return values
    return [*values, *(default for _, _, default, _ in known)]


def pictures(components: Sequence[Any], values: Sequence[Any]) -> dict[int, str]:
    """Return the paths of the uploaded pictures by their places among `values`, which are checked."""
    return {
        index: value["path"]
        for index, (component, value) in enumerate(zip(components, values, strict=False))
        if isinstance(component, gr.Image) and value is not None
    }


class RefusedError(ValueError):
    """A value cannot be used; the text is one sentence for the visitor."""


def check(components: Sequence[Any], values: Sequence[Any]) -> None:
    """Raise RefusedError for the first value that does not fit its component."""
    if not isinstance(values, (list, tuple)) or len(values) < len(components):
        raise RefusedError(f"The request needs {len(components)} values.")
    for component, value in zip(components, values, strict=False):
        if value is None or not isinstance(component, Component):
            continue
        name = f"“{english(component.label)}”" if getattr(component, "label", None) else "A value"
        if isinstance(component, _FILES):
            _check_file(name, value)
        elif isinstance(component, gr.Textbox):
            _check_text(name, value)
        elif isinstance(component, (gr.Number, gr.Slider)):
            _check_number(name, value, component)
        elif isinstance(component, (gr.Radio, gr.Dropdown)):
            _check_choice(name, value, component)
        elif isinstance(component, gr.CheckboxGroup):
            _check_choices(name, value, component)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise RefusedError(f"{name} must be text.")


def _check_number(name: str, value: Any, component: gr.Number | gr.Slider) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError(f"{name} must be a number.")
    if abs(value) > _MOST_DIGITS or not math.isfinite(value):
        raise RefusedError(f"{name} must be a number of ordinary size.")
    low, high = component.minimum, component.maximum
    if low is not None and value < low:
        raise RefusedError(f"{name} must not be below its minimum of {low:g}.")
    if high is not None and value > high:
        raise RefusedError(f"{name} must not be above its maximum of {high:g}.")


def _check_choice(name: str, value: Any, component: gr.Radio | gr.Dropdown) -> None:
    choices = [choice for _, choice in component.choices]
    several = getattr(component, "multiselect", False)
    wanted = value if several and isinstance(value, list) else [value]
    if len(wanted) > len(choices) or any(item not in choices for item in wanted):
        raise RefusedError(f"{name} must be one of: {', '.join(map(str, choices))}.")


def _check_choices(name: str, value: Any, component: gr.CheckboxGroup) -> None:
    choices = [choice for _, choice in component.choices]
    if not isinstance(value, list) or len(value) > len(choices):
        raise RefusedError(f"{name} must be a list of choices.")
    if any(item not in choices for item in value):
        raise RefusedError(f"{name} must be among: {', '.join(map(str, choices))}.")


def _check_file(name: str, value: Any) -> None:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path or not isinstance(value.get("meta"), dict):
        raise RefusedError(f"{name} must be an uploaded file.")
    # Only uploads are accepted: Gradio would fetch an address itself, without a limit of size.
    if "\0" in path or len(path) > 4096 or not _is_upload(path):
        raise RefusedError(f"{name} must be a file that was uploaded here.")


def _as_upload(value: Any) -> Any:
    """Return the upload that a value names by its address on this page, as MCP clients do."""
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path.startswith(("http://", "https://")):
        return value
    local = unquote(urlsplit(path).path.partition(_FILE_ROUTE)[2])
    return {**value, "path": local, "url": None} if local else value


def _is_upload(path: str) -> bool:
    try:
        inside = Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
        return inside and Path(path).is_file()
    except (OSError, ValueError):
        return False
