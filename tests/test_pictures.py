"""What the model sees of an uploaded picture, and the warning about foreign ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demo import events
from demo.pictures import Familiarity, bundled_characters, frame_figure
from demo.studio import Studio
from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import PRETRAINED

CHARACTERS = Path(__file__).parents[1] / "examples" / "characters"


@pytest.fixture(scope="module")
def characters():
    return bundled_characters(CHARACTERS)


def placed(character: np.ndarray, offset: int, tall: bool, rng: np.random.Generator) -> np.ndarray:
    """The character's square somewhere along a strip of 2.5 times its length, its wall continued."""
    side = len(character)
    wall = np.median(np.concatenate([character[0], character[:20, 0], character[:20, -1]]), axis=0)
    shape = (side * 5 // 2, side, 3) if tall else (side, side * 5 // 2, 3)
    strip = (wall + rng.normal(0, 4, shape)).clip(0, 255).astype(np.uint8)
    if tall:
        strip[offset : offset + side] = character
    else:
        strip[:, offset : offset + side] = character
    return strip


def overlap(a: int, b: int, side: int) -> float:
    return max(0, side - abs(a - b)) / side


@pytest.mark.parametrize("tall", [False, True])
def test_the_figure_is_found(characters, tall):
    rng = np.random.default_rng(0)
    found, middle = [], []
    for character in characters:
        side = len(character)
        for offset in (0, side // 2, side * 3 // 2):
            strip = placed(character, offset, tall, rng)
            crop = frame_figure(strip)
            assert crop.shape == character.shape
            axis = 0 if tall else 1
            starts = range(strip.shape[axis] - side + 1)
            windows = (strip[s : s + side] if tall else strip[:, s : s + side] for s in starts)
            start = next(s for s, w in zip(starts, windows, strict=True) if np.array_equal(w, crop))
            found.append(overlap(start, offset, side))
            middle.append(overlap(side * 3 // 4, offset, side))
    assert np.mean(found) > 0.8 > np.mean(middle) + 0.2


def test_squares_and_plain_pictures_stay(characters):
    assert frame_figure(characters[0]) is characters[0]
    assert frame_figure(np.full((40, 90, 3), 7, np.uint8)).shape == (40, 40, 3)
    assert frame_figure(np.zeros((2000, 16, 3), np.uint8)).shape == (16, 16, 3)
    assert frame_figure(np.zeros((17, 2048, 3), np.uint8)).shape == (17, 17, 3)


@pytest.mark.skipif(not (PRETRAINED / "tiny").is_dir(), reason="no embedded checkpoint")
def test_foreign_pictures_are_farther_than_characters(characters):
    measure = Familiarity(StreamingGenerator.from_pretrained("tiny"), characters)
    near = [measure.distance(picture) for picture in characters]
    rng = np.random.default_rng(0)
    far = {
        "noise": rng.integers(0, 256, (128, 128, 3), dtype=np.uint8),
        "white": np.full((128, 128, 3), 255, np.uint8),
        "grey": np.full((128, 128, 3), 128, np.uint8),
        "stripes": np.where(np.arange(128)[None, :, None] // 8 % 2, 255, 0).astype(np.uint8)
        + np.zeros((128, 1, 3), np.uint8),
    }
    distances = {name: measure.distance(picture) for name, picture in far.items()}
    assert np.median(near) < 0.8 and sum(d > 1 for d in near) <= 1
    assert all(distance > 1 for distance in distances.values()), distances


@pytest.mark.parametrize(("distance", "warnings"), [(0.9, 0), (1.1, 1), (np.inf, 1)])
def test_a_foreign_picture_is_shown_with_a_plain_warning(
    random_generator, monkeypatch, distance, warnings
):
    said = []
    monkeypatch.setattr("demo.events.gr.Warning", said.append)
    studio = Studio(random_generator)
    monkeypatch.setattr(studio, "distance", lambda picture: distance)
    message = json.loads(events._poster(studio)(str(CHARACTERS / "02-boy.png")))
    assert message["poster"].startswith("data:image/png;base64,"), "what the model will see"
    assert len(said) == warnings and all("unlike those the model has learnt" in s for s in said)


def test_too_few_known_pictures(random_generator, characters):
    with pytest.raises(ValueError, match="four"):
        Familiarity(random_generator, characters[:2])
