"""The faces of pictures, and the square that is animated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mutual_forcing import faces
from mutual_forcing.faces import Face, crop_of, find_faces, place
from mutual_forcing.media import read_image

CHARACTERS = sorted((Path(__file__).parents[1] / "examples" / "characters").glob("*.png"))


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read_image(CHARACTERS[0])


def on_canvas(picture: np.ndarray, width: int, height: int, side: int, x: int, y: int):
    """The picture, `side` pixels wide, on a grey wall of another size."""
    wall = Image.new("RGB", (width, height), (120, 125, 130))
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
    wall.paste(small, (x, y))
    return np.array(wall)


def points(face: Face) -> np.ndarray:
    return np.array([face.left_eye, face.right_eye, face.mouth])


@pytest.mark.slow
@pytest.mark.parametrize("path", CHARACTERS, ids=lambda path: path.stem)
def test_every_bundled_character_has_one_upright_face(path):
    found = find_faces(read_image(path))
    assert len(found) == 1
    face = found[0]
    assert face.left_eye[0] < face.nose[0] < face.right_eye[0]
    assert face.middle[1] < face.nose[1] < face.mouth[1]
    assert abs(face.angle) < math.radians(12) and 0 < face.score <= 1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_has_the_same_face_turned(portrait, quarters):
    upright, size = find_faces(portrait)[0], portrait.shape[0]
    turned = find_faces(np.ascontiguousarray(np.rot90(portrait, -quarters)))[0]
    expected = points(upright)
    for _ in range(quarters):  # clockwise
        expected = np.stack([size - expected[:, 1], expected[:, 0]], 1)
    assert np.abs(points(turned) - expected).max() < 0.3 * upright.unit
    off = turned.angle - upright.angle - quarters * math.pi / 2
    assert abs(math.remainder(off, 2 * math.pi)) < math.radians(12)


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_a_tilted_head_is_found_with_its_tilt(portrait, degrees):
    upright = find_faces(portrait)[0]
    tilted = Image.fromarray(portrait).rotate(-degrees, Image.Resampling.BICUBIC, expand=True)
    face = find_faces(np.array(tilted))[0]
    assert abs(face.angle - upright.angle - math.radians(degrees)) < math.radians(12)
    assert face.unit == pytest.approx(upright.unit, rel=0.2)


def test_a_small_head_in_a_large_picture_is_found(portrait):
    side = 190  # the head is about 70 pixels wide
    upright = find_faces(portrait)[0]
    face = find_faces(on_canvas(portrait, 1080, 1920, side, 300, 1200))[0]
    expected = points(upright) * side / portrait.shape[0] + (300, 1200)
    assert np.abs(points(face) - expected).max() < 0.35 * face.unit


def test_two_people_are_two_faces_the_largest_first(portrait):
    other = read_image(CHARACTERS[3])
    wall = on_canvas(portrait, 900, 512, 320, 20, 100)
    wall[:, 388:] = np.array(Image.fromarray(other).resize((512, 512)))
    found = find_faces(wall)
    assert len(found) == 2 and found[0].unit > found[1].unit
    assert found[0].middle[0] > 388 > found[1].middle[0]
    assert place(wall, 1).crop == crop_of(found[1]) and place(wall, 1).index == 1


@pytest.mark.parametrize("change", ["dark", "grey", "mirrored"])
def test_light_and_colour_do_not_matter(portrait, change):
    grey = np.repeat(np.asarray(Image.fromarray(portrait).convert("L"))[..., None], 3, 2)
    changed = {"dark": portrait // 4, "grey": grey, "mirrored": portrait[:, ::-1].copy()}[change]
    assert len(find_faces(changed)) == 1


def test_the_square_is_five_eye_distances_with_the_eyes_at_their_place():
    face = Face((100, 100), (140, 100), (120, 144), (120, 122), 1.0)
    assert face.unit == pytest.approx(40) and face.angle == 0
    crop = crop_of(face)
    assert (crop.side, crop.angle, crop.x) == (pytest.approx(200), 0, 120)
    assert 100 - (crop.y - crop.side / 2) == pytest.approx(0.43 * crop.side)
    sideways = Face((100, 100), (100, 140), (56, 120), (78, 120), 1.0)  # turned clockwise
    crop = crop_of(sideways)
    assert crop.angle == pytest.approx(math.pi / 2)
    assert (crop.x, crop.y) == (pytest.approx(100 - 0.07 * 200), pytest.approx(120))


def test_the_unit_stands_when_a_head_turns_aside():
    assert Face((110, 100), (135, 100), (125, 144), (130, 122), 1.0).unit == pytest.approx(
        40, abs=1
    )


FRONT = Face((100, 100), (140, 100), (120, 144), (120, 122), 1.0)
PROFILE = Face((100, 100), (112, 100), (98, 144), (90, 122), 1.0)
TINY = Face((100, 100), (105, 100), (102, 106), (102, 103), 1.0)


@pytest.mark.parametrize(
    ("face", "size", "index", "message"),
    [
        (TINY, (300, 300), 0, "too small.*8 are needed"),
        (FRONT, (300, 130), 0, "cut off.*mouth"),
        (FRONT, (300, 148), 0, "cut off.*chin"),
        (FRONT, (135, 300), 0, "cut off.*eyes"),
        (Face((100, 10), (140, 10), (120, 54), (120, 32), 1.0), (300, 300), 0, "forehead"),
        (PROFILE, (300, 300), 0, "from the side"),
        (FRONT, (300, 300), 1, "no face number 2.*one face"),
        (FRONT, (300, 300), -1, "no face number"),
    ],
)
def test_faces_that_cannot_be_animated_get_one_sentence(monkeypatch, face, size, index, message):
    monkeypatch.setattr(faces, "find_faces", lambda picture: (face,))
    with pytest.raises(ValueError, match=message) as error:
        place(np.zeros((size[1], size[0], 3), np.uint8), index)
    assert str(error.value).count(". ") == 0 and str(error.value).endswith(".")


def test_a_face_that_fits_is_placed_without_a_warning(monkeypatch):
    monkeypatch.setattr(faces, "find_faces", lambda picture: (FRONT,))
    placement = place(np.zeros((300, 300, 3), np.uint8))
    assert placement.crop == crop_of(FRONT) and placement.note == "" and placement.index == 0


def test_where_no_face_is_the_upper_middle_is_taken_with_a_warning():
    plain = np.full((900, 400, 3), 90, np.uint8)
    placement = place(plain)
    assert placement.index is None and placement.faces == () and "No face" in placement.note
    assert placement.crop.side == 400 and placement.crop.x == 200 and placement.crop.angle == 0
    assert 200 <= placement.crop.y <= 450
    figure = plain.copy()
    figure[150:500, 100:300] = (200, 150, 120)
    assert place(figure).crop.y - 200 < 150, "the figure's top lies inside"
    assert place(np.full((300, 300, 3), 90, np.uint8)).crop.side == 300


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="8-bit RGB"):
        find_faces(np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match="8-bit RGB"):
        find_faces(np.zeros((64, 64, 3), np.float32))
