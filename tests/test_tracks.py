"""Pitch, mouth and head of films whose truth is known."""

import cv2
import numpy as np
import portraits
import pytest

from mutual_forcing.canvas import cut_square
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.faces import place
from mutual_forcing.media import read_image
from mutual_forcing.metrics.tracks import SECONDS, read_pitch, read_tracks


def voice(hertz: np.ndarray) -> np.ndarray:
    """A buzz whose pitch [N] is that of every sample, 0 for none."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    buzz = sum(np.sin(phase * k) / k for k in range(1, 12))
    return (0.2 * buzz * (hertz > 0)).astype(np.float32)


def faces(turns: np.ndarray) -> np.ndarray:
    """The same face, turned in the plane by so many degrees around its middle, frame by frame."""
    picture = read_image(str(next(portraits.CHARACTERS.glob("*boy.png"))))
    pixels = cut_square(picture, place(picture).crop, 128)
    maps = [cv2.getRotationMatrix2D((64, 64), float(turn), 1) for turn in turns]
    return np.stack(
        [cv2.warpAffine(pixels, m, (128, 128), borderMode=cv2.BORDER_REPLICATE) for m in maps]
    )


@pytest.mark.parametrize("hertz", [80.0, 125.0, 220.0, 400.0])
def test_a_tone_has_its_pitch_and_noise_has_none(hertz: float) -> None:
    found = read_pitch(voice(np.full(2 * SAMPLE_RATE, hertz)))
    assert len(found) == round(2 / SECONDS)
    # Of the first window half lies before the sound.
    assert np.abs(12 * np.log2(found[1:] / hertz)).max() < 0.1, "a tenth of a semitone"
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert np.isnan(read_pitch(noise)).mean() > 0.9
    assert np.isnan(read_pitch(np.zeros(SAMPLE_RATE, np.float32))).all()
    assert read_pitch(np.zeros(10, np.float32)).shape == (0,)


@pytest.mark.slow
def test_a_melody_is_wider_than_a_flat_voice_and_pauses_have_no_pitch() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    still = faces(np.zeros(50))
    flat = read_tracks(still, voice(np.where(time < 1, 150.0, 0.0)))
    sung = read_tracks(still, voice(150 * 2 ** (0.25 * np.sin(2 * np.pi * time))))
    assert flat.pitch_spread < 0.1 < 1.9 < sung.pitch_spread < 2.3  # 3 semitones / sqrt(2)
    assert np.isnan(flat.pitch[14:]).all() and not np.isnan(flat.pitch[1:12]).any()
    assert len(flat.pitch) == len(flat.mouth) == len(flat.turn) == 25
    assert read_tracks(still, np.zeros(0, np.float32)).pitch_spread is None


def test_a_head_that_moves_is_told_from_one_that_does_not() -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    still = read_tracks(faces(np.zeros(24)), silence)
    moved = read_tracks(faces(12 * np.sin(np.arange(24) / 4)), silence)
    assert still.head_motion < 0.1 < 0.5 < moved.head_motion
    assert np.nanmax(still.mouth) < 0.05, "a closed mouth"


def test_without_a_face_there_is_no_motion() -> None:
    tracks = read_tracks(np.full((8, 128, 128, 3), 90, np.uint8), np.zeros(4000, np.float32))
    assert np.isnan(tracks.mouth).all() and tracks.head_motion is None
