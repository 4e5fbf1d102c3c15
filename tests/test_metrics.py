"""The judges react as they should."""

import json

import numpy as np
import pytest
import torch

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.metrics import frechet
from mutual_forcing.metrics import sync as pair
from mutual_forcing.metrics.drift import (
    by_window,
    changes,
    describe,
    jump,
    latent_drift,
    sharpness,
    standing,
)
from mutual_forcing.metrics.identity import middle, signature, similarity
from mutual_forcing.metrics.mouth import sync
from mutual_forcing.metrics.report import compare, speed, summarise, table
from mutual_forcing.metrics.words import (
    normalise,
    onset_errors,
    plain,
    recognise,
    recognised,
    transcribe,
    word_error_rate,
)
from mutual_forcing.types import TimedWord


def spoken(text: str) -> np.ndarray:
    """A natural voice says a text."""
    voices = pytest.importorskip("training.data.voices", reason="training/requirements.txt")
    return voices.say(text, voices.Voice("af_heart"), np.random.default_rng(0)).audio


def test_word_error_rate_counts_edits() -> None:
    assert word_error_rate("The cat sat.", "the cat sat") == 0
    assert word_error_rate("the cat sat", "the dog sat down") == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no words"):
        word_error_rate("...", "the")


def test_unseen_words_are_found_by_alignment() -> None:
    asked, heard = normalise("Say the word condracky now"), normalise("say a the word now")
    assert recognised(asked, heard) == [True, True, True, False, True]
    assert recognised(asked, []) == [False] * 5 and recognised([], heard) == []


@pytest.mark.slow
def test_the_recogniser_reads_speech_and_not_silence() -> None:
    text = "Did you see my brother in the garden yesterday?"
    assert word_error_rate(text, transcribe(spoken(text))) < 0.35
    assert word_error_rate(text, transcribe(np.zeros(32_000, np.float32))) == 1
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert word_error_rate(text, transcribe(noise)) > 0.8


@pytest.mark.slow
def test_a_transcript_does_not_depend_on_what_was_heard_before() -> None:
    audio = spoken("Hello, I enjoyed a sweet oven.")
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


def test_latents_that_wander_or_die_are_seen() -> None:
    latents = np.random.default_rng(0).normal(0, 1, (8, 400, 4))
    good = latent_drift(latents)
    assert good["shift"] < 0.1 and good["spread"] == pytest.approx(1, abs=0.1)
    assert latent_drift(latents + 2)["shift"] == pytest.approx(2, abs=0.1)
    assert latent_drift(latents * 0.2)["spread"] == pytest.approx(0.2, abs=0.02)
    latents[3] += 5
    channels = standing(latents)
    assert int(np.argmax(channels["means"])) == 3 and len(channels["deviations"]) == 8


@pytest.mark.slow
def test_a_closed_vocabulary_hears_nothing_else() -> None:
    text = "Did you see my brother in the garden yesterday?"
    audio = spoken(text)
    right, wrong = normalise(text), ["lemon", "paper", "whistle", "unknownword"]
    heard = plain(recognise(audio, right))
    assert heard and set(heard) <= set(right)
    assert len(set(heard)) >= 6, "the words are found without a language model"
    assert set(plain(recognise(audio, wrong))) <= set(wrong[:3])
    assert recognise(np.zeros(32_000, np.float32), right) == ()


def _rows(mouth: float, errors: int, count: int = 12) -> list[dict[str, float]]:
    rng = np.random.default_rng(1)
    figures = dict.fromkeys(
        ("identity", "identity_face", "loudness", "silence", "motion", "colour", "contrast",
         "sync", "sync_confidence", "similarity", "jump", "sharpness"), 0.5
    )  # fmt: skip
    shared = {"words": 8, "unseen": 2, "unseen_missed": 1, "lag": 1, "sync_lag": 0, **figures}
    shared |= {"onsets": [-20.0, 40.0], "timing": {"first": 0.5, "chunks": [0.32, 0.64]}}
    return [
        {
            "index": i,
            "mouth": mouth + noise,
            "errors": errors,
            "closed_errors": errors - 1,
            **shared,
        }
        for i, noise in enumerate(rng.normal(0, 0.2, count))
    ]


def test_the_report_pairs_clips_and_can_come_out_badly() -> None:
    better, worse = _rows(0.6, 2), _rows(0.5, 4)
    figures = summarise(better)
    assert figures["wer"] == [0.25, 0.25, 0.25] and figures["unseen_missed"] == 0.5
    assert figures["mouth"][1] < figures["mouth"][0] < figures["mouth"][2]
    assert figures["onset"] == 30 and figures["onset_bias"] == 10 and figures["onset_words"] == 24
    pace = speed(better, 0.64)
    assert pace["load_median"] == 0.75 and pace["load_95"] == 1 and pace["first_chunk"] == 0.5
    assert speed([{**better[0], "timing": None}], 0.64) is None
    gain = compare(better, worse[3:])
    assert gain["clips"] == 9 and gain["wer"][0] == -0.25
    assert gain["mouth"] == pytest.approx([0.1, 0.1, 0.1], abs=1e-3), "noise of clips cancels"
    assert compare(worse, better)["mouth"][2] < 0
    written = table({"few 4": {"nfe_per_chunk": 4, **figures}}).splitlines()
    assert sum("few 4" in line for line in written) == 2 and "30 (of 24)" in written[2]
    with pytest.raises(ValueError, match="no clip"):
        compare(better, _rows(0.5, 4, 0))
    with pytest.raises(ValueError, match="no clips"):
        summarise([])


def test_a_jump_at_chunk_borders_and_blur_are_seen() -> None:
    frames = np.arange(48, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    assert jump(changes(frames)) == pytest.approx(1)
    frames[16:] += 9
    assert jump(changes(frames)) == pytest.approx(5.5)
    assert jump(changes(frames[5:]), 5) == pytest.approx(5.5), "a stretch knows where it began"
    assert jump(changes(frames[:1].repeat(48, 0))) == 0
    noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    soft = (noise.astype(int) + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) // 3
    assert sharpness(soft.astype(np.uint8)) < 0.8 * sharpness(noise)


def test_word_onsets_are_measured_on_recognised_words() -> None:
    asked = [TimedWord("Hello,", 0.1, 0.4), TimedWord("old", 0.4, 0.6), TimedWord("man", 0.6, 1)]
    heard = [TimedWord("hello", 0.15, 0.4), TimedWord("man", 0.55, 1)]
    assert onset_errors(asked, heard) == pytest.approx([50, -50])
    assert onset_errors(asked, []) == []


@pytest.mark.slow
def test_heard_words_move_with_the_sound() -> None:
    audio = spoken("Hello my friend, the house is old.")
    words = recognise(audio)
    later = recognise(np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), audio]))
    errors = onset_errors(words, later)
    assert len(errors) > 3 and np.median(errors) == pytest.approx(500, abs=40)


def test_frechet_distance_of_shifted_and_narrowed_features() -> None:
    rng = np.random.default_rng(0)
    real, other = rng.normal(0, 1, (2, 600, 8))
    floor = frechet.distance(other, real)
    assert frechet.distance(real, real) < 1e-9 and floor < 0.05
    assert frechet.distance(other + 1, real) == pytest.approx(1, abs=0.2)
    assert frechet.distance(other * 0.2, real) > 0.5, "lost variety is seen"
    whole, low, high = frechet.interval(np.split(other + 1, 10), real)
    assert low < whole < high and low > floor
    with pytest.raises(ValueError, match="two windows"):
        frechet.distance(real[:1], real)


def test_features_are_the_same_everywhere_and_tell_noise_from_flat() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    first = frechet.video_features(frames)
    assert first.shape == (5, 64) and (first == frechet.video_features(frames)).all()
    assert np.abs(first - frechet.video_features(frames // 4)).max() > 0.1
    sound = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert frechet.audio_features(sound).shape == (6, 64)


def test_the_sync_pair_finds_a_planted_lag() -> None:
    torch.manual_seed(0)
    heard = torch.nn.functional.normalize(torch.randn(120, 64), dim=-1)
    assert pair.score(heard, heard).lag == 0 and pair.score(heard, heard).margin > 0.8
    late = pair.score(heard.roll(4, 0), heard)
    assert late.lag == 4 and late.confidence > 0.8 and abs(late.margin) < 0.2
    assert pair.score(heard[:1].expand(120, -1), heard) == pair.SyncScore(0.0, 0, 0.0)
    with pytest.raises(ValueError, match="windows"):
        pair.score(heard[:20], heard[:20])


def test_the_sync_pair_is_calibrated() -> None:
    record = json.loads(pair.WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    margins = [record[f"shift_{shift}"]["margin"] for shift in (0, 5, 10)]
    assert margins[0] > max(*margins[1:], record["shuffled"]["margin"])
    assert pair.WEIGHTS.stat().st_size < 2_000_000
    pair.load_pair()
