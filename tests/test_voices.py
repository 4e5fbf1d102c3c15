"""Natural voices: their times, their splits, and that the same words sound the same."""

import numpy as np
import pytest

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import plain
from training.data import kokoro
from training.data.synthesize import CorpusOptions, _pick_voice
from training.data.voices import VOICE_SETS, speak

TEXT = "Please bring a cup of black coffee, and take the back path to the big tent."
LOUD, QUIET = "ɑæʌɔəaeiouɛɪʊɝɜ", "ptkbdɡ_"


@pytest.mark.slow
@pytest.mark.parametrize("voice", ["af_heart", "bm_lewis", "am_adam+am_michael", "bf_lily_child"])
def test_phonemes_are_where_their_sound_is(voice: str) -> None:
    """Vowels are loud, closures and pauses quiet: moved by more than 15 ms, times would fit better."""
    speech = speak(TEXT, voice, np.random.default_rng(0))
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
    assert abs(best) <= 15, f"{best} ms late"
    assert max(fit) > 0.45


@pytest.mark.slow
def test_the_same_words_sound_the_same_and_other_voices_do_not() -> None:
    segments = [("h", "h"), ("ə", "ə"), ("l", "l"), ("oʊ", "ˈO"), ("_", ".")]
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
    """No style of a held-out voice is heard in training, not even in an average."""
    natural = VOICE_SETS["natural"]
    styles = {
        split: {s for v in natural.values() if v.split == split for s in v.source[7:].split("+")}
        for split in ("train", "development", "test")
    }
    assert len(styles["train"]) >= 20
    only = {split: styles[split] - styles["train"] for split in ("development", "test")}
    assert not only["development"] & only["test"]
    for name, voice in natural.items():
        if voice.split != "train":
            assert only[voice.split] & set(voice.source[7:].split("+")), name
    for sex in ("male", "female"):
        for age in ("adult", "child"):
            for split in styles:
                rng = np.random.default_rng(0)
                chosen = natural[_pick_voice("natural", split, sex, age, rng)]
                assert chosen.split == split and chosen.sex == sex


def test_a_corpus_of_unknown_voices_is_refused() -> None:
    with pytest.raises(ValueError, match="choose machine or natural"):
        CorpusOptions(1.0, 0, 128, 0.1, 3, "robots")
