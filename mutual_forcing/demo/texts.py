"""The texts of the page in English and Japanese.

`text(key)` gives labels, buttons and choices of Gradio's components, which `gr.I18n` translates.
`say(key, ...)` gives phrases for the project's own HTML and scripts, which texts.js translates in the
browser. Both follow the language that Gradio chose. Errors and warnings are in English only, because they
are also the API's answers.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from .texts_table import TEXTS

LANGUAGES = ("en", "ja")
_MARK = re.compile(r'__i18n__\{[^{}]*"key": "([^"]*)"\}')


class Phrase(str):
    """An English sentence that the page can translate. Made by `say`."""

    key: str
    values: dict[str, str]

    def html(self, tag: str = "span") -> str:
        """Return an HTML element with the English sentence and the attributes for texts.js."""
        english = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(_marked(self), quote=False))
        return f'<{tag} data-t="{self.key}"{self._carried()}>{english}</{tag}>'

    def attribute(self, name: str) -> str:
        """Return the attribute "aria-label" or "title" with the attributes for texts.js."""
        mark = {"aria-label": "data-t-label", "title": "data-t-title"}[name]
        return f'{name}="{escape(self)}" {mark}="{self.key}"{self._carried()}'

    def _carried(self) -> str:
        values = {name: serialised(value) for name, value in self.values.items()}
        return f' data-values="{escape(json.dumps(values))}"' if values else ""


def text(key: str) -> I18nData:
    """Return a label for a Gradio component; raises KeyError for an unknown key."""
    if key not in TEXTS:
        raise KeyError(key)
    return _I18N(key)


def say(key: str, **values: Any) -> Phrase:
    """Return a phrase whose placeholders are filled with `values`; `count` also sets the plural's s.

    Only `Phrase.html` keeps the emphasis (**) of the table. Raises KeyError for an unknown key.
    """
    filled = {n: value if isinstance(value, str) else str(value) for n, value in values.items()}
    if "count" in values:
        filled["s"] = "" if values["count"] == 1 else "s"
    phrase = Phrase(TEXTS[key][0].format(**filled).replace("**", ""))
    phrase.key, phrase.values = key, filled
    return phrase


def serialised(message: str) -> str | dict[str, Any]:
    """Return the form that the page's scripts read: a phrase as key and values, other text unchanged."""
    if not isinstance(message, Phrase):
        return message
    return {"key": message.key, "values": {n: serialised(v) for n, v in message.values.items()}}


def translations() -> gr.I18n:
    """Return the value for `launch(i18n=...)`."""
    return _I18N


def english(label: Any) -> Any:
    """Return the English text of a label made by `text`; anything else as it is."""
    if not isinstance(label, (str, I18nData)):
        return label
    return _MARK.sub(lambda match: TEXTS[match[1]][0], str(label))


def _marked(message: str) -> str:
    """Return the English sentence with the table's emphasis."""
    if not isinstance(message, Phrase):
        return message
    values = {name: _marked(value) for name, value in message.values.items()}
    return TEXTS[message.key][0].format(**values)


_I18N = gr.I18n(
    **{
        language: {key: both[index] for key, both in TEXTS.items()}
        for index, language in enumerate(LANGUAGES)
    }
)
