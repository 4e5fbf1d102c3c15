"""English phonemes are heard in a film's sound, where nothing says its words."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import ARPABET, PHONEMES, plain
from mutual_forcing.text.recognition import hear_phonemes
from mutual_forcing.types import TimedPhoneme
from training.data.dataset import Clip, Corpus


def heard_in(audio: np.ndarray) -> tuple[TimedPhoneme, ...]:
    return hear_phonemes(audio).phonemes


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


def test_a_long_sound_is_heard_by_stretches_that_follow_one_another(clip: Clip) -> None:
    audio = np.tile(clip.read_audio(), 6)[: 12 * SAMPLE_RATE]
    phonemes = heard_in(audio)
    assert phonemes[-1].end == pytest.approx(12, abs=0.1)
    assert all(a.end <= b.start + 0.011 for a, b in pairwise(phonemes))
