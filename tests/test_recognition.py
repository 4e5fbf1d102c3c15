"""Driving sound moves the lips: its phonemes are heard, and the mouth follows them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.metrics import mouth
from mutual_forcing.text.inventory import ARPABET, PHONEMES, plain
from mutual_forcing.text.recognition import PhonemeRecogniser
from mutual_forcing.types import TimedPhoneme
from training.data.dataset import Clip, Corpus


def heard_in(audio: np.ndarray) -> tuple[TimedPhoneme, ...]:
    return PhonemeRecogniser(audio).until(len(audio) / SAMPLE_RATE).phonemes


@pytest.fixture(scope="module")
def clip(corpus_folder: Path) -> Clip:
    """The longest one."""
    return max(Corpus(corpus_folder).clips, key=lambda clip: clip.frames)


def test_every_symbol_is_one_that_the_model_knows() -> None:
    assert set(ARPABET.values()) <= set(PHONEMES) and len(set(ARPABET.values())) == 39


def test_silence_is_a_pause() -> None:
    (pause,) = heard_in(np.zeros(SAMPLE_RATE, np.float32))
    assert (pause.phoneme, pause.start, pause.end) == ("_", 0.0, 1.0)


@pytest.mark.parametrize("sound", ["hum", "noise", "tick"])
def test_what_is_no_speech_is_heard_without_an_error(sound: str) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    audio = {
        "hum": np.sin(2 * np.pi * 100 * time),
        "noise": np.random.default_rng(0).uniform(-1, 1, 2 * SAMPLE_RATE),
        "tick": np.eye(1, 200)[0],
    }[sound]
    heard = heard_in(audio.astype(np.float32))
    assert all(p.end > p.start >= 0 and p.phoneme in PHONEMES for p in heard)


def test_phonemes_are_heard_in_time(clip: Clip) -> None:
    """By 20 ms, a third of the spoken ones are the very same: chance is a twentieth."""
    said, heard = clip.transcript.phonemes, heard_in(clip.read_audio())
    hits = []
    for moment in np.arange(0, clip.frames / 25, 0.02):
        ours, theirs = (
            next((plain(p.phoneme) for p in track if p.start <= moment < p.end), "_")
            for track in (heard, said)
        )
        if theirs != "_":
            hits.append(ours == theirs)
    assert np.mean(hits) > 0.3


def test_a_stream_hears_a_few_seconds_ahead_and_the_same_as_all_at_once(clip: Clip) -> None:
    audio = np.tile(clip.read_audio(), 6)[: 20 * SAMPLE_RATE]
    recogniser = PhonemeRecogniser(audio)
    assert recogniser.until(0.1).seconds <= 5.01, "only the first stretch"
    for moment in np.arange(1, 20, 0.64):
        assert moment - 0.5 < recogniser.until(moment).seconds < moment + 5.01
    phonemes = recogniser.until(20).phonemes
    assert phonemes == heard_in(audio)
    assert all(a.end <= b.start + 0.011 for a, b in pairwise(phonemes))


def test_lips_follow_driving_sound(clip: Clip, served_generator: StreamingGenerator) -> None:
    request = GenerationRequest(clip.read_frames(0, 1)[0], audio=clip.read_audio(), steps=2)
    frames = np.concatenate([chunk.frames for chunk in served_generator.stream(request)])
    read = mouth.read_openness(mouth.load_reader(), frames)
    wanted = np.asarray(clip.row["viseme_openness"])
    correlation, _, _ = mouth.sync(read[: len(wanted)], wanted)
    assert correlation > 0.4
