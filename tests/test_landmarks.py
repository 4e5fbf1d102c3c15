"""The 478 points of a face: those of MediaPipe, wherever the face lies."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mutual_forcing.faces import find_faces
from mutual_forcing.landmarks import Landmarks, find_landmarks, landmarks_of_squares
from mutual_forcing.media import read_image

CHARACTERS = Path(__file__).parents[1] / "examples" / "characters"
NAMES = ("01-blond-bob", "04-grandfather", "06-glasses")
# What MediaPipe 1.2.3 gives for the characters above when it follows them through a film that stands still.
MEDIAPIPE = {
    1: ((236.5, 277.4), (244.7, 303.1), (233.8, 290.2)),
    4: ((236.4, 268.2), (244.5, 291.6), (233.6, 281.0)),
    6: ((236.7, 225.9), (244.1, 235.4), (232.6, 240.1)),
    10: ((237.3, 142.9), (242.6, 129.9), (231.1, 149.5)),
    13: ((236.7, 322.9), (243.2, 347.8), (233.0, 333.8)),
    14: ((237.0, 326.0), (242.9, 354.4), (232.9, 338.4)),
    17: ((236.6, 347.0), (242.5, 370.4), (232.7, 354.4)),
    33: ((170.7, 217.0), (174.6, 222.5), (167.5, 229.1)),
    61: ((202.3, 322.3), (202.5, 344.5), (198.9, 324.7)),
    70: ((148.4, 188.2), (149.7, 188.8), (147.5, 200.1)),
    105: ((171.2, 173.7), (173.5, 172.8), (167.7, 186.4)),
    133: ((210.6, 221.9), (218.0, 228.0), (208.5, 234.5)),
    145: ((188.6, 225.5), (194.4, 232.6), (185.9, 237.8)),
    152: ((234.8, 386.5), (242.9, 424.9), (233.8, 394.6)),
    159: ((187.7, 210.9), (192.3, 216.6), (184.1, 220.6)),
    205: ((178.2, 281.0), (180.8, 299.7), (175.5, 292.3)),
    234: ((133.0, 239.7), (130.1, 248.2), (137.4, 253.2)),
    263: ((303.4, 217.4), (312.1, 223.1), (295.9, 229.2)),
    291: ((270.6, 322.4), (284.6, 345.6), (266.3, 326.7)),
    300: ((325.3, 188.3), (336.6, 190.0), (315.5, 200.1)),
    334: ((302.6, 173.9), (311.7, 173.6), (294.3, 186.5)),
    362: ((263.1, 222.5), (270.2, 228.0), (255.7, 234.5)),
    374: ((285.3, 225.9), (293.0, 232.6), (278.3, 237.6)),
    386: ((286.5, 212.0), (294.9, 216.9), (279.7, 220.6)),
    425: ((295.0, 281.3), (307.8, 300.4), (290.7, 292.3)),
    454: ((341.1, 240.1), (358.1, 248.8), (330.1, 252.9)),
    468: ((189.8, 218.6), (195.0, 224.3), (188.4, 229.0)),
    473: ((282.7, 219.5), (291.1, 224.4), (276.7, 228.9)),
}
EYES, MOUTH = (468, 473), (13, 14)


def of(picture: np.ndarray) -> Landmarks | None:
    face = find_faces(picture)[0]
    return find_landmarks(picture, (face.left_eye, face.right_eye), face.mouth)


def apart(points: np.ndarray) -> float:
    """The distance of the eyes."""
    return math.dist(*points[list(EYES)])


def off(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=-1) / apart(found)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read_image(CHARACTERS / f"{NAMES[0]}.png")


@pytest.fixture(scope="module")
def upright(portrait) -> Landmarks:
    found = of(portrait)
    assert found is not None
    return found


@pytest.mark.parametrize("column", range(len(NAMES)), ids=NAMES)
def test_the_points_are_those_of_mediapipe(column):
    found = of(read_image(CHARACTERS / f"{NAMES[column]}.png"))
    assert found is not None and found.score > 0.9
    assert found.points.shape == (478, 2) and found.points.dtype == np.float32
    here = found.points[list(MEDIAPIPE)]
    there = np.array([row[column] for row in MEDIAPIPE.values()])
    distance = np.linalg.norm(here - there, axis=1) / apart(found.points)
    assert np.median(distance) < 0.01 and distance.max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CHARACTERS.glob("*.png")), ids=lambda path: path.stem)
def test_every_bundled_character_has_points_near_its_eyes_and_mouth(path):
    picture = read_image(path)
    face, found = find_faces(picture)[0], of(picture)
    assert found is not None
    places = np.array([*found.points[list(EYES)], found.points[list(MOUTH)].mean(0)])
    expected = np.array([face.left_eye, face.right_eye, face.mouth])
    assert np.linalg.norm(places - expected, axis=1).max() < 0.25 * face.unit


@pytest.mark.parametrize("degrees", [-90, -25, 40, 180])
def test_a_turned_picture_has_turned_points(portrait, upright, degrees):
    """Counter-clockwise around the middle of the picture."""
    image = Image.fromarray(portrait)
    turned = np.array(image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)))
    angle, middle = math.radians(degrees), np.array(image.size) / 2
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    expected = (upright.points - middle) @ turn.T + middle
    found = find_landmarks(turned, tuple(expected[list(EYES)]), tuple(expected[13]))
    assert found is not None
    distance = off(found.points, expected)
    assert np.median(distance) < 0.01 and distance.max() < 0.06


def test_a_large_and_a_small_picture_have_the_same_points(portrait, upright):
    for side in (96, 1500):
        scale = side / portrait.shape[0]
        image = Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS)
        places = upright.points * scale
        found = find_landmarks(np.array(image), tuple(places[list(EYES)]), tuple(places[13]))
        assert found is not None
        assert np.median(off(found.points, places)) < 0.02


def test_a_picture_without_a_face_has_none(portrait):
    eyes, mouth = ((200.0, 200.0), (280.0, 200.0)), (240.0, 290.0)
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    assert find_landmarks(noise, eyes, mouth) is None
    assert find_landmarks(np.full((512, 512, 3), 90, np.uint8), eyes, mouth) is None
    corner = ((20.0, 20.0), (50.0, 20.0)), (35.0, 52.0)
    assert find_landmarks(portrait, *corner) is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (3, 2000)])
@pytest.mark.parametrize("unit", [0.0, 1.0, 5000.0])
def test_hostile_sizes_do_not_fail(shape, unit):
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for x, y in ((0.0, 0.0), (-900.0, 1e5)):
        assert find_landmarks(picture, ((x, y), (x + unit, y)), (x, y + unit)) is None


@pytest.mark.parametrize("wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_shapes_and_types_are_refused(wrong):
    with pytest.raises(ValueError, match="8-bit RGB"):
        find_landmarks(wrong, ((2, 2), (4, 2)), (3, 4))


def test_a_batch_gives_what_each_square_gives_alone(portrait):
    face = Image.fromarray(portrait).resize((256, 256))
    pictures = [np.array(face), np.array(face)[:, ::-1], np.zeros((256, 256, 3), np.uint8)]
    squares = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    points, scores = landmarks_of_squares(squares)
    assert points.shape == (3, 478, 2) and scores.shape == (3,)
    assert scores[0] > 0.9 and scores[2] < 0.1
    for row, square in enumerate(squares):
        alone, score = landmarks_of_squares(square[None])
        assert torch.allclose(alone[0], points[row], atol=0.01)
        assert torch.allclose(score[0], scores[row], atol=1e-4)
