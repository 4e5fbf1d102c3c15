"""Natural voices: their times, their splits, and that the same words sound the same."""

import numpy as np
import pytest

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import PHONEMES, plain
from mutual_forcing.text.phonemes import read
from training.data import kokoro
from training.data.japanese_sentences import JapaneseSentenceMaker, inflected
from training.data.voices import HELDOUT, Voice, draw_voice, say

ENGLISH = "Please bring a cup of black coffee, and take the back path to the big tent."
JAPANESE = "こんにちは、東京は今日もとても暑いですね？"
LOUD, QUIET = "ɑæʌɔəaeiouɛɪʊɝɜɯɨ", "ptkbdɡ_"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("voice", "text"),
    [
        (Voice("af_heart"), ENGLISH),
        (Voice("bm_lewis"), ENGLISH),
        (Voice("am_adam+am_michael"), ENGLISH),
        (Voice("bf_lily", 1.11), ENGLISH),
        (Voice("jf_alpha"), JAPANESE),
        (Voice("jf_alpha+af_heart"), JAPANESE),
        (Voice("jm_kumo+bm_lewis"), JAPANESE),
    ],
)
def test_phonemes_are_where_their_sound_is(voice: Voice, text: str) -> None:
    """Vowels are loud, closures and pauses quiet: moved further, times would fit better."""
    speech = say(text, voice, np.random.default_rng(0))
    ends = [p.end for p in speech.phonemes]
    assert [p.start for p in speech.phonemes][1:] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(len(speech.audio) / SAMPLE_RATE, abs=0.001)
    assert speech.phonemes[-1].phoneme == "_" + text[-1].replace("？", "?")
    if voice.language == "en":
        assert [w.word.lower() for w in speech.words] == text[:-1].replace(",", "").lower().split()
    step = SAMPLE_RATE // 200
    count = len(speech.audio) // step
    level = np.log(np.square(speech.audio[: count * step]).reshape(count, step).mean(1) + 1e-6)
    time, wanted = (np.arange(count) + 0.5) / 200, np.zeros(count)
    for phone in speech.phonemes:
        inside = (time >= phone.start) & (time < phone.end)
        wanted[inside] = (plain(phone.phoneme)[0] in LOUD) - float(plain(phone.phoneme)[0] in QUIET)
    shifts = range(-12, 13)
    fit = [np.corrcoef(np.roll(wanted, shift)[20:-20], level[20:-20])[0, 1] for shift in shifts]
    best = shifts[int(np.argmax(fit))] * 5
    assert abs(best) <= (15 if voice.language == "en" else 20), f"{best} ms late"
    assert max(fit) > (0.45 if voice.language == "en" else 0.3)


@pytest.mark.slow
def test_the_same_words_sound_the_same_and_other_voices_do_not() -> None:
    segments = [("h", "h"), ("ə", "ə"), ("l", "l"), ("oʊ", "ˈO"), ("_", ".")]
    said, again = (say("Hello.", Voice("af_heart"), np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(said.audio, again.audio) and said.phonemes == again.phonemes
    first, times = kokoro.synthesize(segments, "af_heart")
    again, _ = kokoro.synthesize(segments, "af_heart")
    other, _ = kokoro.synthesize(segments, "af_heart+am_adam")
    assert np.array_equal(first, again)
    assert len(other) != len(first) or not np.allclose(first, other)
    assert [p.phoneme for p in times] == ["_", "h", "ə", "l", "oʊ", "_", "_"]
    starts = [p.start for p in times]
    assert starts == sorted(starts) and abs(times[-1].end - len(first) / kokoro.RATE) < 1e-6


@pytest.mark.parametrize(
    ("segments", "voice", "message"),
    [
        ([("x", "☃")], "af_heart", "does not know the sign"),
        ([("x", "a")], "af_nobody", "Unknown style 'af_nobody'"),
        ([("a", "a" * 600)], "af_heart", "at most 509 tokens"),
    ],
)
def test_what_cannot_be_said_gets_one_sentence(segments, voice: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kokoro.synthesize(segments, voice)


def test_whole_voices_are_held_out() -> None:
    """No held-out style is heard in training, not even in an average."""
    for language in ("en", "ja"):
        drawn = {}
        for split in ("train", "development", "test"):
            rng = np.random.default_rng(0)
            asked = [(sex, child) for sex in ("male", "female") for child in (False, True)] * 80
            voices = [draw_voice(language, split, *person, rng) for person in asked]
            assert {voice.language for voice in voices} == {language}
            if language == "en":
                assert [voice.sex for voice in voices] == [sex for sex, _ in asked]
            drawn[split] = {voice.style for voice in voices}
        heard = {style for blend in drawn["train"] for style in blend.split("+")}
        assert not heard & set(HELDOUT) and not drawn["development"] & drawn["test"]
        assert len(drawn["train"]) >= (50 if language == "en" else 30)


def test_children_are_higher() -> None:
    rng = np.random.default_rng(0)
    grown, child = (draw_voice("en", "train", "female", young, rng) for young in (False, True))
    assert grown.shift == 1 and child.shift > 1.05 and child.name.endswith("_child")


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
