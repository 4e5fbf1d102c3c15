"""The judges react as they should."""

import shutil

import numpy as np
import pytest

from training.metrics.drift import by_window, describe
from training.metrics.identity import middle, signature, similarity
from training.metrics.mouth import sync
from training.metrics.report import compare, summarise, table
from training.metrics.words import normalise, recognised, transcribe, word_error_rate


def test_word_error_rate_counts_edits() -> None:
    assert word_error_rate("The cat sat.", "the cat sat") == 0
    assert word_error_rate("the cat sat", "the dog sat down") == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no words"):
        word_error_rate("...", "the")


def test_unseen_words_are_found_by_alignment() -> None:
    asked, heard = normalise("Say the word condracky now"), normalise("say a the word now")
    assert recognised(asked, heard) == [True, True, True, False, True]
    assert recognised(asked, []) == [False] * 5 and recognised([], heard) == []


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite (apt-get install flite)")
def test_the_recogniser_reads_flite_and_not_silence() -> None:
    from training.data.voices import speak

    text = "Did you see my brother in the garden yesterday?"
    speech = speak(text, "slt", np.random.default_rng(0))
    assert word_error_rate(text, transcribe(speech.audio)) < 0.35
    assert word_error_rate(text, transcribe(np.zeros(32_000, np.float32))) == 1
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert word_error_rate(text, transcribe(noise)) > 0.8


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite (apt-get install flite)")
def test_a_transcript_does_not_depend_on_what_was_heard_before() -> None:
    from training.data.voices import speak

    audio = speak("Hello, I enjoyed a sweet oven.", "slt", np.random.default_rng(0)).audio
    first = transcribe(audio)
    assert len(first.split()) > 3, "speech is heard as words"
    for seed in range(3):
        loud = np.random.default_rng(seed).normal(0, 0.3, 48_000).astype(np.float32)
        transcribe(loud)
        assert transcribe(audio) == first


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
    square = first[:, :16]
    assert (middle(square) == square[:, 4:12, 4:12]).all()


def test_drift_catches_frozen_pictures_silence_and_fading() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    audio = rng.normal(0, 0.1, 32_000).astype(np.float32)
    good = describe(frames, audio)
    assert good["silence"] == 0 and good["motion"] > 50
    assert describe(frames[:1].repeat(50, 0), audio)["motion"] == 0
    silent = describe(frames, np.zeros_like(audio))
    assert silent["silence"] == 1 and silent["loudness"] == 0
    faded = by_window(np.concatenate([frames, frames // 4]), np.tile(audio, 2), (0, 2, 4, 60))
    assert list(faded) == ["0-2 s", "2-4 s"]
    assert faded["2-4 s"]["colour"] < 0.3 * faded["0-2 s"]["colour"]


def _rows(mouth: float, errors: int, count: int = 12) -> list[dict[str, float]]:
    rng = np.random.default_rng(1)
    figures = dict.fromkeys(
        ("identity", "identity_face", "loudness", "silence", "motion", "colour", "contrast"), 0.5
    )
    shared = {"words": 8, "unseen": 2, "unseen_missed": 1, "lag": 1, "real_time": 2.0, **figures}
    return [
        {"index": i, "mouth": mouth + noise, "errors": errors, **shared}
        for i, noise in enumerate(rng.normal(0, 0.2, count))
    ]


def test_the_report_pairs_clips_and_can_come_out_badly() -> None:
    better, worse = _rows(0.6, 2), _rows(0.5, 4)
    figures = summarise(better)
    assert figures["wer"] == [0.25, 0.25, 0.25] and figures["unseen_missed"] == 0.5
    assert figures["mouth"][1] < figures["mouth"][0] < figures["mouth"][2]
    gain = compare(better, worse[3:])
    assert gain["clips"] == 9 and gain["wer"][0] == -0.25
    assert gain["mouth"] == pytest.approx([0.1, 0.1, 0.1], abs=1e-3), "noise of clips cancels"
    assert compare(worse, better)["mouth"][2] < 0
    written = table({"few 4": {"nfe_per_chunk": 4, **figures}}).splitlines()
    assert len({line.count("|") for line in written}) == 1 and "few 4" in written[2]
    with pytest.raises(ValueError, match="no clip"):
        compare(better, _rows(0.5, 4, 0))
    with pytest.raises(ValueError, match="no clips"):
        summarise([])
