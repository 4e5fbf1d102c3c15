"""A continuous tone stays one: at the borders of chunks, after Continue, and in Compare's film."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.demo.comparison import Variant
from mutual_forcing.demo.comparison_grid import write_grid
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import read_audio, read_heard, write_mp4

SECONDS, PITCH = 6.4, 440.0
TIMES = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
TONE = (0.4 * np.sin(2 * np.pi * PITCH * TIMES)).astype(np.float32)


def gap(path: Path) -> float:
    """How far the loudness of 20 ms falls below the tone's, anywhere but at both ends: 0 is not at all."""
    heard = read_audio(path)
    assert abs(len(heard) / SAMPLE_RATE - SECONDS) < 0.1
    window = round(0.02 * SAMPLE_RATE)
    pieces = heard[: len(heard) // window * window].reshape(-1, window)[10:-10]
    # Of this pitch only: a click is loud, too.
    wave = np.exp(-2j * np.pi * PITCH * np.arange(window) / SAMPLE_RATE) * np.hanning(window)
    loud = np.abs(pieces @ wave)
    return float(1 - loud.min() / np.median(loud))


def test_the_measure_finds_a_gap(tmp_path):
    broken = TONE.copy()
    broken[50_000:50_160] = 0  # 10 ms
    for sound, found in ((TONE, False), (broken, True)):
        frames = np.zeros((160, 64, 64, 3), np.uint8)
        write_mp4(tmp_path / "film.mp4", [(frames, sound)])
        assert (gap(tmp_path / "film.mp4") > 0.2) == found


@pytest.mark.slow
def test_no_gap_at_chunks_and_after_continue(random_generator: StreamingGenerator, picture):
    sessions = SessionManager(random_generator)
    request = GenerationRequest(picture, audio=TONE, steps=1)
    for progress in sessions.begin("visitor", request):
        if progress.made > 2:
            sessions.stop("visitor")
    stopped = progress.made
    last = list(sessions.proceed("visitor", ""))[-1]
    assert 2 < stopped < last.made
    assert gap(sessions.save(sessions.session_of("visitor"))) < 0.2
    sessions.close()


@pytest.mark.slow
def test_no_gap_in_the_film_of_a_comparison(tmp_path):
    variants = []
    for steps in (1, 4):
        path = tmp_path / f"{steps}.mp4"
        chunks = [
            (
                np.full((16, 64, 64, 3), 60 * steps, np.uint8),
                TONE[start : start + SAMPLES_PER_CHUNK],
            )
            for start in range(0, len(TONE), SAMPLES_PER_CHUNK)
        ]
        write_mp4(path, chunks)
        variants.append(Variant(steps, "Few", video=path))
    write_grid(tmp_path / "grid.mp4", variants, {})
    assert gap(tmp_path / "grid.mp4") < 0.2


@pytest.mark.slow
def test_a_user_s_own_sound_is_in_the_film_as_it_was_given(
    random_generator: StreamingGenerator, picture, tmp_path
):
    """A stereo sound at 48 kHz: other pitches left and right, higher ones than the model hears."""
    time = np.arange(round(3.3 * 48_000)) / 48_000
    sides = [0.4 * np.sin(2 * np.pi * pitch * time) for pitch in (440, 15_000)]
    path = tmp_path / "own.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        file.writeframes((np.stack(sides, 1) * (2**15 - 1)).astype("<i2").tobytes())
    request = GenerationRequest(picture, audio=read_audio(path), heard=read_heard(path), steps=1)
    sessions = SessionManager(random_generator)
    for progress in sessions.begin("visitor", request):
        if progress.made > 1:
            sessions.stop("visitor")
    last = list(sessions.proceed("visitor", ""))[-1]
    assert last.made > progress.made and last.seconds == pytest.approx(3.3)
    film = read_heard(sessions.save(sessions.session_of("visitor")))
    sessions.close()
    assert film.shape[1] == 2 and abs(len(film) / 48_000 - 3.3) < 0.1
    for side, own in enumerate(sides):
        part = film[24_000:-24_000, side] / 2**15
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        found = spectrum.argmax() * 48_000 / len(part)
        assert found == pytest.approx((440, 15_000)[side], abs=1)
        assert part.std() == pytest.approx(own.std(), rel=0.1)


def test_a_sound_that_is_heard_belongs_to_the_one_that_drives(picture):
    mono, heard = TONE, np.zeros((2 * len(TONE), 2), np.int16)
    GenerationRequest(picture, audio=mono, heard=heard)
    for wrong, why in (
        ({"text": "Hello.", "heard": heard}, "needs its driving audio"),
        ({"audio": mono, "heard": heard[: len(TONE)]}, "as long as"),
        ({"audio": mono, "heard": heard[:, 0]}, r"\[N, C\]"),
        ({"audio": mono, "heard": heard.astype(np.float32)}, "16-bit"),
        ({"audio": mono, "heard": np.zeros((2 * len(TONE), 3), np.int16)}, "one channel or two"),
    ):
        with pytest.raises(ValueError, match=why):
            GenerationRequest(picture, **wrong)
