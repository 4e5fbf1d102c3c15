"""The judges react as they should."""

import shutil

import numpy as np
import pytest

from training.metrics.identity import signature, similarity
from training.metrics.mouth import sync
from training.metrics.words import transcribe, word_error_rate


def test_word_error_rate_counts_edits() -> None:
    assert word_error_rate("The cat sat.", "the cat sat") == 0
    assert word_error_rate("the cat sat", "the dog sat down") == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no words"):
        word_error_rate("...", "the")


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite (apt-get install flite)")
def test_the_recogniser_reads_flite_and_not_silence() -> None:
    from training.data.voices import speak

    text = "Did you see my brother in the garden yesterday?"
    speech = speak(text, "slt", np.random.default_rng(0))
    assert word_error_rate(text, transcribe(speech.audio)) < 0.35
    assert word_error_rate(text, transcribe(np.zeros(32_000, np.float32))) == 1
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert word_error_rate(text, transcribe(noise)) > 0.8


def test_sync_finds_a_planted_lag_and_frozen_lips() -> None:
    wanted = np.random.default_rng(0).random(100)
    assert sync(wanted, wanted)[:2] == (pytest.approx(1), 0)
    late = np.roll(wanted, 3)
    at_zero, lag, best = sync(late, wanted)
    assert lag == 3 and best > 0.95 and abs(at_zero) < 0.4
    assert sync(np.full(100, 0.3), wanted)[0] == 0


def test_identity_tells_pictures_apart() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8).repeat(4, 1) for _ in "ab"
    )
    noisy = np.clip(first.astype(int) + rng.integers(-20, 20, first.shape), 0, 255).astype(np.uint8)
    assert similarity(signature(noisy), signature(first)) > 0.9
    assert similarity(signature(noisy), signature(second)) < 0.5
