"""The page's two languages: one table, complete, used, and delivered to the page."""

from __future__ import annotations

import json
import re
import string
from dataclasses import fields
from pathlib import Path

import pytest

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import FPS
from mutual_forcing.demo import texts
from mutual_forcing.demo.comparison import MAX_VARIANTS
from mutual_forcing.demo.page import build_demo, mount_options
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.demo.texts import LANGUAGES, Phrase, say, serialised
from mutual_forcing.demo.texts_table import TEXTS
from mutual_forcing.text.captions import EMOTIONS, MOTIONS
from mutual_forcing.text.inventory import LANGUAGE_CHOICES
from mutual_forcing.types import FEW_MODE_MAX_STEPS, FRAMINGS, MAX_SECONDS, Steering

DEMO = Path(texts.__file__).parent
SOURCES = {
    path.name: path.read_text(encoding="utf-8")
    for path in DEMO.rglob("*")
    if path.suffix in (".py", ".js", ".html") and path.name != "texts_table.py"
}
FAMILIES = {
    *(f"emotion.{word}" for word in EMOTIONS),
    *(f"motion.{word}" for word in MOTIONS),
    *(f"framing.{word}" for word in FRAMINGS),
    *(f"language.{choice}" for choice in LANGUAGE_CHOICES),
    *(f"pose.{field.name}" for field in fields(Steering)),
    # A column or chart has a second text that explains it.
    *(key for key in TEXTS if key.startswith(("figure.", "chart.")) and key.endswith("-info")),
}
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
SAME_IN_BOTH = {"mf.language", "compare.time", "timeline.comma"}


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_text_has_both_languages_with_the_same_places():
    for key, both in TEXTS.items():
        assert len(both) == len(LANGUAGES) and all(text.strip() for text in both), key
        english, japanese = both
        # "s" is the English plural; Japanese has none.
        assert places(english) - {"s"} == places(japanese), key
        assert english.count("**") == japanese.count("**"), key
        assert not JAPANESE.search(english), key
        assert key in SAME_IN_BOTH or JAPANESE.search(japanese), key


def test_no_text_is_unused_and_none_is_missing():
    everything = "\n".join(SOURCES.values())
    used = set(re.findall(r'["\'`]([a-z]+\.[a-z-]+)["\'`]', everything))
    unused = set(TEXTS) - used - FAMILIES
    assert not unused, f"in the table and never said: {sorted(unused)}"
    prefixes = {key.split(".")[0] for key in TEXTS}
    asked = {
        key
        for source in SOURCES.values()
        for key in re.findall(
            r'(?:\b(?:t|text|say|tell|showWait)\(|data-t(?:-label|-title)?=)\s*"([^"{}]+)"', source
        )
        if key.split(".")[0] in prefixes
    }
    assert asked and asked <= set(TEXTS), f"said and not in the table: {asked - set(TEXTS)}"


def test_texts_of_gradio_components_need_no_values():
    for source in SOURCES.values():
        for key in re.findall(r'\bt(?:ext)?\("([a-z]+\.[a-z-]+)"\)', source):
            assert not places(TEXTS[key][0]) and "<" not in TEXTS[key][0], key


def test_numbers_in_texts_are_those_of_the_code():
    for english, numbers in (
        (TEXTS["ask.steps-compare"][0], (MAX_VARIANTS, FEW_MODE_MAX_STEPS)),
        (TEXTS["ask.speech"][0], (f"{MAX_SECONDS / 60:g} minutes",)),
        (TEXTS["player.nfe-info"][0], (CHUNK_SECONDS,)),
        (TEXTS["figure.nfe-info"][0], (CHUNK_SECONDS,)),
        (TEXTS["player.speed-info"][0], (FPS,)),
    ):
        assert all(str(number) in english for number in numbers), english


def test_the_page_carries_the_table_and_asks_for_it_by_key(random_generator):
    sessions = SessionManager(random_generator)
    demo, options = build_demo(random_generator, sessions), mount_options(sessions)
    delivered = options["i18n"].translations_dict
    assert set(delivered) == set(LANGUAGES)
    assert delivered["en"].keys() == delivered["ja"].keys() == TEXTS.keys()
    config = json.dumps(demo.get_config_file()["components"], default=str)
    asked = set(re.findall(r'\\"key\\": \\"([^"\\]+)\\"', config))
    assert {"ask.text", "do.talk", "do.compare", "do.start", "tab.about", "emotion.happy"} <= asked
    assert asked <= set(TEXTS)


def test_the_api_speaks_english(random_generator):
    described = json.dumps(build_demo(random_generator).get_api_info(), default=str)
    assert "__i18n__" not in described
    assert '"label": "What they say"' in described and '"label": "Steps"' in described


def test_a_phrase_is_english_text_and_says_how_to_translate_it():
    mode = say("mode.few")
    phrase = say("stream.badge", mode=mode, count=1)
    assert isinstance(phrase, Phrase) and phrase == "Few mode · 1 step"
    assert say("stream.badge", mode=mode, count=4) == "Few mode · 4 steps"
    assert serialised(phrase) == {
        "key": "stream.badge",
        "values": {"mode": {"key": "mode.few", "values": {}}, "count": "1", "s": ""},
    }
    assert serialised("as it is") == "as it is"
    with pytest.raises(KeyError):
        say("no.such-text")


def test_html_escapes_values_and_keeps_emphasis():
    html = say("player.broke-off", reason='<img src=x onerror="1">').html()
    assert "<img" not in html and "&lt;img" in html
    assert "<b>2 variants</b>" in say("expect.variants", count=2, seconds="9").html()
    assert 'title="Motion" data-t-title="figure.motion"' in say("figure.motion").attribute("title")
