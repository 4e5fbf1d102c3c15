"""What is made of an upload: kept whole, searched for faces once, shown with what will move."""

from __future__ import annotations

import base64
import io
import json
import threading

import gradio as gr
import numpy as np
import portraits
import pytest
from PIL import Image

from mutual_forcing.demo import framing, pictures
from mutual_forcing.demo.inputs import DRIVES, Form, read_character
from mutual_forcing.demo.pictures import ResultCache, faces_of, nearest_face, outlined, place_face
from mutual_forcing.demo.sessions import SessionManager


@pytest.fixture
def uploads(tmp_path):
    """Write a scene and return its path."""
    return lambda pixels, name="face.png": portraits.save(pixels, tmp_path / name)


def form(path: str, **changes) -> Form:
    return Form(path, "Hello.", None, DRIVES, "happy", "calm", 1, 0, 0, 0, 0, **changes)


@pytest.fixture
def warned(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("mutual_forcing.demo.framing.gr.Warning", said.append)
    return said


def still_of(message: str) -> Image.Image:
    poster = json.loads(message)["poster"]
    assert poster.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(poster.split(",")[1])))


def test_the_whole_upload_is_kept(uploads):
    pixels = portraits.landscape()
    path = uploads(pixels)
    assert np.array_equal(read_character(path), pixels)
    assert not read_character(path).flags.writeable, "it is shared by everybody who uses it"
    request = form(path).request()
    assert np.array_equal(request.image, pixels)
    assert request.crop.x == pytest.approx(350, abs=40)
    assert (request.framing, request.size) == ("whole", 512)


def test_the_choice_among_two_faces_changes_what_is_animated(uploads):
    path = uploads(portraits.two())
    assert [face.middle[0] < 450 for face in faces_of(path)] == [True, False], "larger one first"
    first, second = (form(path, face=number).request().crop for number in (1, 2))
    assert first.x < 450 < second.x and first.side > second.side
    assert form(path).request().crop == first
    with pytest.raises(ValueError, match=r"^There is no face number 3: the picture shows 2 faces"):
        form(path, face=3).request()


def test_a_click_chooses_the_nearest_face(uploads):
    path = uploads(portraits.two())
    height, width = outlined(path).shape[:2]
    assert max(height, width) <= 600
    assert [nearest_face(path, width * at, height / 2) for at in (0.1, 0.3, 0.75, 0.99)] == [
        1,
        1,
        2,
        2,
    ]
    assert framing._chosen(path, [width * 0.9, height * 0.1]) == 2
    for wrong in (None, 7, [], ["a", "b"], [1], {"x": 1}):
        assert framing._chosen(path, wrong) == gr.skip()
    assert framing._chosen(None, [1, 1]) == gr.skip()
    alone = uploads(portraits.landscape(), "alone.png")
    assert nearest_face(alone, 500, 1) == 1


def test_the_preview_shows_the_square_and_numbers_only_where_there_is_a_choice(uploads):
    pixels = portraits.two()
    path = uploads(pixels)
    one, two = outlined(path, 1).astype(int), outlined(path, 2).astype(int)
    assert one.shape == two.shape and one.shape[0] / one.shape[1] == pytest.approx(
        500 / 900, abs=0.01
    )
    assert (np.abs(one - two).max(-1) > 40).sum() > 500, "another square is marked"
    scale = one.shape[1] / 900
    crop = place_face(path, 1).crop
    edge = one[int(crop.y * scale), int((crop.x - crop.side / 2) * scale) - 3 :][:7]
    assert edge.min(-1).max() > 200, "the square's left edge is drawn"


def test_faces_are_looked_for_once(uploads, monkeypatch, warned, random_generator):
    path, looked = uploads(portraits.landscape()), []
    real = pictures.find_faces
    monkeypatch.setattr(pictures, "find_faces", lambda *a: (looked.append(a), real(*a))[1])
    sessions = SessionManager(random_generator)
    threads = [threading.Thread(target=framing._seen, args=(path, 1)) for _ in range(3)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    framing.poster(sessions, path, 256, "face", 1)
    random_generator.start(form(path, size=256).request())
    form(path).planned()
    for number in (99, -7):
        with pytest.raises(ValueError, match="no face number"):
            place_face(path, number)
    assert len(looked) == 1 and not warned
    uploads(portraits.portrait())  # another picture under the same name
    assert form(path).request().image.shape == (640, 360, 3) and len(looked) == 2


def test_without_a_face_there_is_a_note_and_a_film(uploads, warned, random_generator):
    path = uploads(np.full((300, 500, 3), 90, np.uint8))
    shown, face, which = framing._seen(path, 3)
    assert shown["visible"] and face == 1 and not which["visible"]
    assert len(warned) == 1 and warned[0].startswith("No face was found in this picture")
    assert form(path).request().crop == place_face(path).crop
    assert still_of(
        framing.poster(SessionManager(random_generator), path, 512, "whole", 1)
    ).size == (
        500,
        300,
    )


@pytest.mark.parametrize(
    ("scene", "sentence"),
    [(portraits.cut_off, "cut off by the picture's border"), (portraits.tiny, "too small")],
)
def test_a_face_that_cannot_be_used_is_one_sentence(
    uploads, warned, random_generator, scene, sentence
):
    path = uploads(scene())
    shown, _, _ = framing._seen(path, 1)
    assert shown["visible"], "the upload is not lost"
    assert len(warned) == 1 and sentence in warned[0] and "\n" not in warned[0]
    for ask in (form(path).request, form(path).planned):
        with pytest.raises(ValueError, match=sentence):
            ask()
    assert json.loads(framing.poster(SessionManager(random_generator), path, 512, "whole", 1)) == {
        "poster": ""
    }


def test_what_is_no_picture_is_said_once(tmp_path, warned):
    path = tmp_path / "face.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    shown, _, which = framing._seen(str(path), 1)
    assert not shown["visible"] and not which["visible"]
    assert [s.split(";")[0] for s in warned] == ["The picture cannot be read"]
    assert framing._seen(None, 1)[0]["visible"] is False and len(warned) == 1


def test_several_faces_can_be_chosen_and_a_choice_is_kept_while_it_exists(uploads, warned):
    both, alone = uploads(portraits.two()), uploads(portraits.landscape(), "alone.png")
    _, face, which = framing._seen(both, 2)
    assert face == 2 and which["visible"] and which["choices"] == [("1", 1), ("2", 2)]
    _, face, which = framing._seen(alone, 2)
    assert face == which["value"] == 1 and not which["visible"] and not warned


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [(512, "whole", (910, 512)), (1080, "whole", (960, 540)), (256, "face", (256, 256))],
)
def test_the_poster_is_how_the_film_begins(uploads, random_generator, size, kind, expected):
    path = uploads(portraits.landscape())
    still = still_of(framing.poster(SessionManager(random_generator), path, size, kind, 1))
    state = random_generator.start(form(path, size=size, framing=kind).request())
    assert still.size == state.film_size == expected
    difference = np.abs(np.asarray(still).astype(int) - state.canvas.reference_frame)
    assert difference.mean() < 3


def test_what_is_remembered_is_bounded_and_made_once():
    made, go = [], threading.Event()

    def make(key: int) -> int:
        made.append(key)
        if key == 0:
            go.wait(300)
        if key == 7:
            raise ValueError("Not this one.")
        if key == 8:
            raise KeyError("broken")
        return -key

    cache, results = ResultCache(make, 3), []
    threads = [threading.Thread(target=lambda: results.append(cache(0))) for _ in range(4)]
    [thread.start() for thread in threads]
    go.set()
    [thread.join() for thread in threads]
    assert results == [0] * 4 and made == [0]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^Not this one\.$"):
            cache(7)
        with pytest.raises(KeyError):
            cache(8)
    assert made == [0, 7, 8, 8], "a refusal is remembered, an accident is not"
    assert [cache(key) for key in (1, 2, 3, 1)] == [-1, -2, -3, -1] and len(cache._made) == 3
    assert cache(0) == 0 and made[-1] == 0, "the oldest had gone"
    assert pictures._PIXELS._most <= 4
