"""A run's settings: into JSON, links and films, and back."""

from __future__ import annotations

import json
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest

from mutual_forcing import GenerationRequest
from mutual_forcing.demo import components, settings
from mutual_forcing.demo.inputs import DRIVES, LENDS, Form
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.text.inventory import LANGUAGE_CHOICES

FACE, VOICE = components.CHARACTERS / "04-grandfather.png", components.VOICES / "lewis.flac"
FORM = Form(
    None, "Hello & “goodbye”, 1+1?", None, LENDS, "sad", "lively", 12, 7, 2.5, 3.2, 5, 720, "face", 3,
    "ja",
)  # fmt: skip


def values(form: Form) -> dict:
    return {name: getattr(form, name) for name in settings.NAMES}


def test_json_and_back():
    read = settings.from_json(settings.to_json(FORM, "abc"))
    assert read.pop("checkpoint") == "abc"
    assert read == values(FORM)


def test_a_link_and_back():
    from urllib.parse import parse_qsl

    query = settings.to_query(FORM)
    assert settings.from_query(dict(parse_qsl(query[1:]))) == values(FORM)
    assert settings.from_query({"utm_source": "x", "steps": "4"}) == {"steps": 4}
    assert "language=ja" in query
    found = replace(FORM, text="auto", language="auto")
    assert "language" not in settings.to_query(found) and "text=auto" in settings.to_query(found)


def test_what_comes_with_the_page_is_named_and_what_was_uploaded_is_not(tmp_path):
    from urllib.parse import parse_qsl

    chosen = tmp_path / "cache" / FACE.name  # Gradio keeps a copy under the same name
    chosen.parent.mkdir()
    chosen.write_bytes(FACE.read_bytes())
    form = replace(FORM, picture=str(chosen), sound=str(VOICE))
    wanted = {**values(FORM), "picture": str(FACE), "sound": str(VOICE), "checkpoint": "abc"}
    assert settings.from_json(settings.to_json(form, "abc")) == wanted
    query = settings.to_query(form, "abc")
    assert f"character={FACE.name}" in query and "checkpoint=abc" in query
    assert settings.from_query(dict(parse_qsl(query[1:]))) == wanted
    chosen.write_bytes(b"another picture of that name")
    assert "character" not in settings.to_json(form) + settings.to_query(form)
    for foreign in ("../../etc/passwd", "/etc/passwd", "README.md", "", 7, ["x"], None):
        read = settings.from_json(json.dumps({"steps": 4, "character": foreign, "voice": foreign}))
        assert read == {"steps": 4}


def test_a_film_restores_its_run(random_generator, tmp_path):
    sessions = SessionManager(random_generator)
    picture = np.full((64, 48, 3), 128, np.uint8)
    request = GenerationRequest(
        picture, "Hello.", caption="happy, calm", steps=3, seed=9, seconds=1.0, size=384,
        framing="face",
    )  # fmt: skip
    list(sessions.begin("visitor", request, face=2))
    read = settings.from_file(sessions.save(sessions.session_of("visitor")))
    assert read.pop("checkpoint") == random_generator.system.digest
    assert read == {
        "text": "Hello.", "emotion": "happy", "motion": "calm", "steps": 3, "seed": 9,
        "guidance": 0, "seconds": 1.0, "window": 0, "size": 384, "framing": "face", "face": 2,
        "language": "auto",
    }  # fmt: skip
    path = tmp_path / "run.json"
    path.write_text(settings.to_json(FORM), encoding="utf-8")
    assert settings.from_file(path)["text"] == FORM.text


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "{", "3", '{"steps": 0}', '{"steps": "4"}', '{"steps": 2.5}',
        '{"seed": NaN}', '{"seed": -1}', '{"emotion": "bored"}', '{"emotion": ["sad"]}',
        '{"text": 7}', '{"text": "' + "a" * 3000 + '"}', '{"window": 1e99}', "[" * 20_000,
        '{"steps": true}', '{"sound_use": {}}', '{"size": 100}', '{"size": 4000}', '{"framing": 1}',
        '{"framing": "feet"}', '{"language": "fr"}', '{"language": null}',
        '{"face": 0}', '{"face": 99}', '{"face": 1.5}',
    ],
)  # fmt: skip
def test_wrong_settings_are_one_sentence(text):
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]{10,150}\.$"):
        settings.from_json(text)


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02" * 99, b"{\xff\xfe}", b"#EXTM3U\nfile:///x"])
def test_foreign_files_are_refused(data, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="no settings"):
        settings.from_file(path)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_the_panel_restores_the_fields(random_generator, several):
    with gr.Blocks() as demo:
        fields = [
            gr.Image(), gr.Textbox(), gr.Audio(), gr.Radio([DRIVES, LENDS]),
            gr.Dropdown(["sad", "neutral"]), gr.Radio(["calm", "lively"]), gr.Slider(1, 50),
            gr.Number(), gr.Number(), gr.Number(), gr.Number(), gr.Radio([512, 720]),
            gr.Radio(["whole", "face"]), gr.Number(),
        ]  # fmt: skip
        if several:
            fields.append(gr.Radio(LANGUAGE_CHOICES))
        names = settings.NAMES[: len(fields) - 2]
        settings.panel(fields, demo, SessionManager(random_generator))
    restore = next(fn for fn in demo.fns.values() if fn.name == "restored")
    updates = restore.fn(settings.to_json(FORM))
    assert updates[:-2] == [getattr(FORM, name) for name in names]
    assert ("language" in names) == several
    assert updates[-2:] == [gr.skip(), gr.skip()], "an uploaded picture and a sound stay"
    order = [1, *range(3, len(fields)), 0, 2]
    assert [fields.index(component) for component in restore.outputs] == order
    updates = restore.fn(settings.to_json(replace(FORM, picture=str(FACE), sound=str(VOICE))))
    assert updates[-2:] == [str(FACE), str(VOICE)]


def test_what_was_saved_before_there_were_sizes_is_still_valid(random_generator):
    old = settings.NAMES[:9]
    assert not {"size", "framing", "face", "language"} & set(old)
    text = json.dumps({name: getattr(FORM, name) for name in old})
    assert settings.from_json(text) == {name: getattr(FORM, name) for name in old}
    link = {"text": "Hello.", "sound_use": LENDS, "steps": "4", "character": FACE.name}
    assert set(settings.from_query(link)) == {"text", "sound_use", "steps", "picture"}
    assert settings.from_json('{"size": 600, "framing": "face"}') == {
        "size": 512,
        "framing": "face",
    }, "a film of the library's own size is restored as the nearest that is offered"
