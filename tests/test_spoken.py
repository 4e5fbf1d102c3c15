"""What the page and the API's answers say of a text: how it will be said, and what of it cannot be."""

from __future__ import annotations

import html
import json
import re
import threading
from pathlib import Path

import av
import gradio as gr
import numpy as np
import pytest

from mutual_forcing import GenerationRequest
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.demo import latency, spoken
from mutual_forcing.demo.inputs import DRIVES, LENDS, Form
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.model import Model
from mutual_forcing.demo.page import build_demo
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.text.phonemes import read

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"
TEXT = "It costs $5M ☃"
JAPANESE = "価格は$5Mです☃"
REFUSED = "The text is Japanese, and this checkpoint&#x27;s voices speak English only"


@pytest.fixture(scope="module")
def english(english_generator) -> SessionManager:
    return SessionManager(english_generator, Limits(text=300))


@pytest.fixture(scope="module")
def bilingual(random_generator) -> SessionManager:
    return SessionManager(random_generator)


def shown(line: str) -> str:
    """What a reader sees of a line, before it is translated."""
    spans = re.findall(r"<span[^>]*>(.*?)</span>", line)
    return " | ".join(html.unescape(span) for span in spans)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TEXT, "Said as: $5M → five million dollars | Not spoken: ☃"),
        (
            "$5 and 👨\u200d👩\u200d👧, $5",
            "Said as: $5 → five dollars | Not spoken: 👨\u200d👩\u200d👧",
        ),
        ("Bell \x07 <b>rings</b>", "Not spoken: U+0007, <b>, </b>"),
        ("“It’s” a CAFÉ – well-known!", ""),
        ("Hello there.", ""),
        ("", ""),
        ("  \n", ""),
        ("?!", "The text has nothing that can be spoken in English."),
        ("a" * 301, "The text is longer than 300 characters."),
    ],
)
def test_a_line_says_what_differs_from_what_was_typed(english, text, line):
    assert shown(spoken.spoken_html(english, text)) == line


def test_a_line_can_be_translated_and_brings_no_markup(english):
    line = spoken.spoken_html(english, "<img src=x onerror=alert(1)> costs $5.")
    assert "<img" not in line and "onerror" in line
    assert 'data-t="spoken.said"' in line and 'data-t="spoken.not"' in line


def test_a_line_stays_short(english):
    many = " ".join(f"${n}" for n in range(1, 60))
    assert "$8 → eight dollars …" in shown(spoken.spoken_html(english, many))
    assert len(shown(spoken.spoken_html(english, "☃ a" + "д" * 200))) < 200


def test_a_language_that_is_not_spoken_is_told_before_the_click(english, bilingual):
    line = spoken.spoken_html(english, JAPANESE)
    assert REFUSED in line and shown(line) == spoken.problem(english, JAPANESE)
    assert not spoken.problem(bilingual, JAPANESE) and not spoken.problem(english, " ")
    line = shown(spoken.spoken_html(bilingual, JAPANESE))
    assert line == "Said as: $5M → 5百万ドル | Not spoken: ☃"


def test_a_chosen_language_is_obeyed(bilingual):
    assert shown(spoken.spoken_html(bilingual, "5 cm", "en")) == "Said as: 5 cm → five centimeters"
    assert shown(spoken.spoken_html(bilingual, "$5", "ja")) == "Said as: $5 → 5ドル"
    form = Form(str(FACE), "$5", None, DRIVES, "sad", "calm", 1, 0, 0, 0, 0, language="ja")
    assert form.request().language == form.planned().language == "ja"


def test_changes_are_those_of_the_words():
    reading = read("Dr. Who’s NASA, café & GPT-4: x² = $5M, $5M.")
    assert dict(reading.changes) == {
        "Dr.": "Doctor", "&": "and", "GPT": "G P T", "4": "four", "²": "squared", "=": "equals",
        "$5M": "five million dollars",
    }  # fmt: skip
    assert len(reading.changes) == 7, "each once"
    assert read("ハロー、今日は。").changes == read("Hello ☃").changes == ()


def parameters(demo: gr.Blocks, endpoint: str) -> list[str]:
    described = demo.get_api_info()["named_endpoints"][endpoint]["parameters"]
    return [parameter["parameter_name"] for parameter in described]


def labels(demo: gr.Blocks) -> set[str]:
    return {block.elem_id for block in demo.blocks.values() if block.elem_id}


def test_only_a_checkpoint_of_several_languages_lets_one_choose(english, bilingual):
    one, two = (build_demo(s.generator, s) for s in (english, bilingual))
    for endpoint in ("/generate", "/compare"):
        assert parameters(two, endpoint) == [*parameters(one, endpoint), "language"]
    assert parameters(two, "/generate") == list(Form.__annotations__)
    assert labels(two) - labels(one) == {"talk-language", "compare-language"}
    choice = next(b for b in two.blocks.values() if b.elem_id == "talk-language")
    assert [value for _, value in choice.choices] == ["auto", "en", "ja"]
    one, two = (json.dumps(d.get_config_file(), default=str) for d in (one, two))
    assert "ask.english-or-japanese" not in one and "ask.english-or-japanese" in two
    assert "about.limit-english" in one and "about.limit-languages" in two


@pytest.mark.parametrize("manager", ["english", "bilingual"])
def test_every_text_field_has_its_line(manager, request):
    """One event for each field: not queued, not of the API, at most one at a time."""
    sessions = request.getfixturevalue(manager)
    demo = build_demo(sessions.generator, sessions)
    previews = [fn for fn in demo.fns.values() if fn.name == "preview"]
    lines = {fn.outputs[0].elem_id: fn for fn in previews}
    assert set(lines) == {
        f"{name}-spoken" for name in ("text", "next-text", "compare-text", "live-text", "live-more")
    }
    for fn in previews:
        assert fn.api_visibility == "private" and not fn.queue
        assert fn.trigger_mode == "always_last" and fn.concurrency_id != "model"
    several = ["auto"] if manager == "bilingual" else []
    talk = lines["text-spoken"].fn
    assert talk(TEXT, None, DRIVES, *several)["visible"]
    assert "million" in talk(TEXT, "sound.wav", LENDS, *several)["value"]
    gone = talk(TEXT, "sound.wav", DRIVES, *several)
    assert not gone["visible"] and not gone["value"], "a sound that drives the lips is not read"
    chosen = ["ja"] if several else []
    assert ("million" in lines["compare-text-spoken"].fn(TEXT, *chosen)["value"]) == (not chosen)
    assert "million" in lines["live-text-spoken"].fn(TEXT)["value"]


def test_what_is_told_under_the_text_is_not_told_twice(english):
    demo = build_demo(english.generator, english)
    fns = {fn.name: fn.fn for fn in demo.fns.values() if fn.name in ("predict", "expect")}
    values = (None, JAPANESE, None, DRIVES, "sad", "calm", 4, 0, 0, 0, 0)
    assert "Japanese" not in fns["predict"](*values) and "Few mode" in fns["predict"](*values)
    assert "Nothing to say" in fns["predict"](None, "", *values[2:]), "that is no text's line"


@pytest.mark.slow
def test_the_api_answers_with_what_was_not_spoken(random_generator):
    """Talk and /generate in the film's settings, /compare in its rows, /live in its timeline."""
    sessions = SessionManager(random_generator, Limits())
    demo = build_demo(random_generator, sessions)
    endpoints = {fn.api_name: fn.fn for fn in demo.fns.values() if fn.api_name}
    visitor = gr.Request(session_hash="visitor")
    film = endpoints["generate"](str(FACE), TEXT, visitor, steps=1, seconds=0.64, size=256)
    assert comment(film)["unspoken"] == ["☃"]
    plain = endpoints["generate"](str(FACE), "Hello.", visitor, steps=1, seconds=0.64, size=256)
    assert comment(plain)["unspoken"] == []

    grid, _, rows = endpoints["compare"](
        str(FACE), TEXT, [1, 2], "sad", "calm", 0, 0, 0.64, visitor, size=256
    )
    assert [row["unspoken"] for row in rows] == [["☃"], ["☃"]]
    assert comment(grid)["unspoken"] == ["☃"]

    said, ended = threading.Event(), threading.Event()
    live, say, stop = (endpoints[name] for name in ("live", "live_say", "live_stop"))

    def act() -> None:
        while not ended.wait(0.01):
            try:
                say("And 😀 more.", visitor)
            except gr.Error:  # It has not begun.
                continue
            said.set()
            stop(visitor)
            return

    threading.Thread(target=act, daemon=True).start()
    clip, timeline = live(str(FACE), TEXT, "sad", "calm", 1, visitor, size=256)
    ended.set()
    assert said.is_set() and timeline["unspoken"] == ["☃", "😀"]
    assert clip is None or comment(clip)["unspoken"] == ["☃", "😀"]
    sessions.close()


def comment(path: str) -> dict:
    with av.open(path) as film:
        return json.loads(film.metadata["comment"])


def test_a_sound_that_drives_the_lips_leaves_nothing_unspoken(random_generator, picture):
    request = GenerationRequest(picture, TEXT, audio=np.full(SAMPLE_RATE, 0.1, np.float32))
    assert random_generator.plan(request).unspoken == ()


def test_dictionaries_are_loaded_before_the_speed_is_measured(random_generator, monkeypatch):
    done = []
    monkeypatch.setattr(type(random_generator), "warm_up", lambda _: done.append("warm"))
    monkeypatch.setattr(latency, "_time_chunk", lambda *_: done.append("timed") or (0.2, 0.1))
    assert latency.measure(Model(random_generator)).known
    assert done[0] == "warm" and done.count("warm") == 1
