"""What the page says, in English and Japanese: one table, for Gradio's labels and for our own HTML.

Labels, buttons and choices of Gradio's components: `text(key)`; Gradio's `gr.I18n` translates them.
Our own HTML and the messages to our scripts: `say(key, ...)`; texts.js translates them in the page.
Both follow the language that Gradio chose. The sentences of errors and warnings are in English only:
they are also the API's answers.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

import gradio as gr

from .texts_table import TEXTS

LANGUAGES = ("en", "ja")
_MARK = re.compile(r'__i18n__\{[^{}]*"key": "([^"]*)"\}')


class Phrase(str):
    """A sentence in English that the page can say in its own language; made by `say`."""

    key: str
    values: dict[str, str]

    def html(self, tag: str = "span") -> str:
        """Return an element with the English sentence and what the page's script needs."""
        english = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(_marked(self), quote=False))
        return f'<{tag} data-t="{self.key}"{self._carried()}>{english}</{tag}>'

    def attribute(self, name: str) -> str:
        """Return an element's attribute "aria-label" or "title", likewise."""
        mark = {"aria-label": "data-t-label", "title": "data-t-title"}[name]
        return f'{name}="{escape(self)}" {mark}="{self.key}"{self._carried()}'

    def _carried(self) -> str:
        values = {name: told(value) for name, value in self.values.items()}
        return f' data-values="{escape(json.dumps(values))}"' if values else ""


def text(key: str) -> gr.i18n.I18nData:
    """Return what a Gradio component takes as a label; raises KeyError for an unknown key."""
    if key not in TEXTS:
        raise KeyError(key)
    return _I18N(key)


def say(key: str, **values: Any) -> Phrase:
    """Return a phrase; `values` fill its places, and `count` also decides about a plural's s.

    Emphasis (**) of the table is kept by `Phrase.html` only. Raises KeyError for an unknown key.
    """
    filled = {n: value if isinstance(value, str) else str(value) for n, value in values.items()}
    if "count" in values:
        filled["s"] = "" if values["count"] == 1 else "s"
    phrase = Phrase(TEXTS[key][0].format(**filled).replace("**", ""))
    phrase.key, phrase.values = key, filled
    return phrase


def told(message: str) -> str | dict[str, Any]:
    """Return what a script of the page reads: a phrase as its key and values, other text as it is."""
    if not isinstance(message, Phrase):
        return message
    return {"key": message.key, "values": {n: told(v) for n, v in message.values.items()}}


def translations() -> gr.I18n:
    """Return what `launch(i18n=...)` takes."""
    return _I18N


def english(label: Any) -> Any:
    """Return the English text of a label made by `text`; anything else as it is."""
    if not isinstance(label, (str, gr.i18n.I18nData)):
        return label
    return _MARK.sub(lambda match: TEXTS[match[1]][0], str(label))


def plain_api(demo: gr.Blocks) -> None:
    """Let the API's description of `demo` name its values in English, not by the table's keys."""
    described = demo.get_api_info

    def get_api_info(*arguments: Any, **options: Any) -> Any:
        return _in_english(described(*arguments, **options))

    demo.get_api_info = get_api_info  # type: ignore[method-assign]


def _marked(message: str) -> str:
    """The English sentence with the table's emphasis."""
    if not isinstance(message, Phrase):
        return message
    values = {name: _marked(value) for name, value in message.values.items()}
    return TEXTS[message.key][0].format(**values)


def _in_english(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_english(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_in_english(item) for item in value]
    return english(value)


_I18N = gr.I18n(
    **{
        language: {key: both[index] for key, both in TEXTS.items()}
        for index, language in enumerate(LANGUAGES)
    }
)
