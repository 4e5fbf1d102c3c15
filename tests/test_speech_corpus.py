"""Speech alone: natural voices in two languages, as a corpus like any other."""

import json

import numpy as np
import pytest

from mutual_forcing.text.inventory import PHONEMES, is_pause, plain

pytest.importorskip("onnxruntime", reason="pip install -r training/requirements.txt")

from mutual_forcing.text.phonemes import read
from training.data import kokoro, speech
from training.data.dataset import Corpus
from training.data.japanese_sentences import JapaneseSentenceMaker, inflected
from training.data.voices import VOICES, Voice, say


def test_japanese_sentences_can_be_read_and_said() -> None:
    maker, rng = JapaneseSentenceMaker(0), np.random.default_rng(0)
    texts = {maker.sentence(rng, "train") for _ in range(150)}
    assert len(texts) > 140
    signs = kokoro._vocabulary()
    for text in texts:
        reading = read(text)
        assert reading.language == "ja" and not reading.unspoken, text
        phonemes = {p for word in reading.words for p in word.phonemes}
        assert phonemes <= set(PHONEMES) and all(set(p) <= set(signs) for p in phonemes), text


def test_heldout_japanese_words_are_in_no_training_sentence() -> None:
    maker, rng = JapaneseSentenceMaker(0), np.random.default_rng(1)
    own = maker.words["test"]["noun"]
    assert len(own) > 3
    trained = "".join(maker.sentence(rng, "train") for _ in range(500))
    tested = "".join(maker.sentence(rng, "test") for _ in range(100))
    words = [word for word in own if len(word) > 2]
    assert not any(word in trained for word in words) and any(word in tested for word in words)


@pytest.mark.parametrize(
    ("stem", "ending", "said"),
    [
        ("書き", "て", "書いて"), ("読み", "た", "読んだ"), ("買い", "て", "買って"), ("見", "た", "見た"),
        ("貸し", "ない", "貸さない"), ("準備し", "ない", "準備しない"), ("持ってき", "ない", "持ってこない"),
        ("洗い", "ない", "洗わない"), ("集め", "ない", "集めない"), ("送り", "まし", "送りまし"),
    ],
)  # fmt: skip
def test_verbs_are_inflected(stem: str, ending: str, said: str) -> None:
    assert inflected(stem, ending) == said


def test_voices_are_held_out() -> None:
    rng = np.random.default_rng(0)
    held = set(speech.HELDOUT)
    for language in ("en", "ja"):
        drawn = {
            split: {speech.draw_voice(language, split, rng).source for _ in range(200)}
            for split in ("train", "development", "test")
        }
        alone = [source.removeprefix("kokoro:") for source in drawn["train"]]
        assert not any(set(source.split("+")) & held for source in alone)
        assert not drawn["development"] & drawn["test"]
        assert len(drawn["train"]) >= (50 if language == "en" else 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "text"), [("jf_alpha", "こんにちは、東京は今日もとても暑いですね？")]
)
def test_japanese_voices_are_on_time(style: str, text: str) -> None:
    """Vowels are where the sound's energy is, within 20 ms."""
    voice = Voice(f"kokoro:{style}", 1.0, "female", "adult")
    said = say(text, voice, np.random.default_rng(0), kokoro.RATE, "ja")
    assert said.phonemes[-1].phoneme == "_?"
    hop = 120
    count = len(said.audio) // hop
    time = (np.arange(count) + 0.5) * hop / kokoro.RATE
    energy = np.log((said.audio[: count * hop].reshape(count, hop) ** 2).mean(1) + 1e-6)
    vowels = np.zeros(count)
    for p in said.phonemes:
        vowels[(time >= p.start) & (time < p.end)] = plain(p.phoneme)[0] in "aeioɯɨ"
    energy, vowels = energy - energy.mean(), vowels - vowels.mean()
    lag = max(range(-40, 41), key=lambda k: (np.roll(energy, -k) * vowels).sum())
    assert abs(lag) * hop / kokoro.RATE <= 0.02


@pytest.mark.slow
def test_speech_is_a_corpus_and_goes_on_where_it_stopped(tmp_path) -> None:
    options = speech.SpeechOptions(0.01, 3)
    (tmp_path / "parts").mkdir()
    (tmp_path / "other" / "parts").mkdir(parents=True)
    for number in (0, 1):
        speech.make_voice(options, number, tmp_path)
    speech.write_manifest(tmp_path)
    clips = Corpus(tmp_path).clips
    assert len(clips) == 2 * speech.TEXTS_PER_VOICE
    assert len({clip.identity for clip in clips}) == 2
    for clip in clips:
        last = clip.transcript.phonemes[-1]
        assert last.end == pytest.approx(clip.row["seconds"]) and is_pause(last.phoneme)
        assert clip.transcript.words and clip.row["language"] in ("en", "ja")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    again = json.loads((tmp_path / "parts" / "000001.json").read_text())
    speech.make_voice(options, 1, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    other = tmp_path / "other"
    speech.make_voice(options, 1, other)
    assert json.loads((other / "parts" / "000001.json").read_text()) == again
    (tmp_path / "speech.json").write_text(json.dumps({"hours": 0.01, "seed": 3}))
    with pytest.raises(ValueError, match="another seed"):
        speech.make_speech(speech.SpeechOptions(0.01, 4), tmp_path, 1)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        speech.SpeechOptions(0, 0)
    assert VOICES["af_sky"].split == "test"
