"""Heads, brows and lids go with the voice; nobody who is silent moves as if to speak."""

import numpy as np
import pytest

from mutual_forcing.blinks import find_blinks
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.motion import MOTION
from mutual_forcing.types import TimedPhoneme

pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")
pytest.importorskip("pyworld", reason="pip install -r training/requirements.txt")

from training.data.dataset import Corpus
from training.data.head_model import UNIT_NAMES
from training.data.head_motion import Manner
from training.data.prosody import RATE, find_phrases, hear
from training.data.speech_motion import animate, listen
from training.data.tracked_points import motion
from training.data.voices import end_with_sound

SECONDS = 6.4
PHONEMES = [
    TimedPhoneme("_", 0, 0.4),
    *(
        TimedPhoneme(name, 0.4 + 0.1 * k, 0.5 + 0.1 * k)
        for k, name in enumerate("mɑbʌmɛbɑmʌbɛmɑbʌmɛbɑ")
    ),
    TimedPhoneme("_", 2.4, 3.2),
    *(
        TimedPhoneme(name, 3.2 + 0.1 * k, 3.3 + 0.1 * k)
        for k, name in enumerate("mɑbʌmɛbɑmʌbɛmɑbʌmɛbɑ")
    ),
    TimedPhoneme("_", 5.2, SECONDS),
]


def melody(high: float, at: float) -> np.ndarray:
    """A hum of 120 Hz while somebody speaks, `high` semitones higher and louder for a moment."""
    time = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    bump = np.exp(-0.5 * ((time - at) / 0.1) ** 2)
    phase = 2 * np.pi * np.cumsum(120 * 2 ** (high * bump / 12)) / SAMPLE_RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.05 + 0.05 * bump * (high > 0))
    spoken = ((time > 0.4) & (time < 2.4)) | ((time > 3.2) & (time < 5.2))
    return sound * spoken


def is_vowel(phone: TimedPhoneme) -> bool:
    return phone.phoneme in "ɑʌɛ"


def test_phrases_accents_and_pitch_are_heard() -> None:
    found = hear(melody(6, 1.35), PHONEMES, is_vowel, int(SECONDS * RATE))
    assert [(round(p.start, 2), round(p.end, 2)) for p in found.phrases] == [(0.4, 2.4), (3.2, 5.2)]
    assert found.phrases[1].pause == pytest.approx(0.8)
    strongest = max(found.accents, key=lambda accent: accent.strength)
    assert strongest.time == pytest.approx(1.35, abs=0.11) and strongest.rise > 2
    assert found.pitch[int(1.35 * RATE)] > 3 and abs(found.pitch[int(4.2 * RATE)]) < 1
    assert not found.pitch[int(2.8 * RATE)] and found.activity[int(2.8 * RATE)] < 0.1
    assert found.loudness[int(1.35 * RATE)] > 1.5 * found.loudness[int(4.2 * RATE)] > 0


def test_a_short_gap_is_no_end_of_a_phrase() -> None:
    said = [TimedPhoneme(*p) for p in (("h", 0, 0.2), ("_", 0.2, 0.25), ("h", 0.25, 0.5))]
    assert [(p.start, p.end) for p in find_phrases(said)] == [(0, 0.5)]
    assert find_phrases([TimedPhoneme("_", 0, 1)]) == ()


def tracks(name: str, sound: np.ndarray, count: int = 60) -> np.ndarray:
    """One control of `count` people who say the same: [count, T]."""
    frames, column = int(SECONDS * 25), MOTION.index(name)
    prosody = listen(sound, PHONEMES, frames)
    made = [
        animate(PHONEMES, frames, "neutral", True, np.random.default_rng([5, n]), None, prosody)
        for n in range(count)
    ]
    return np.stack([motion(m.performance)[:, column] for m in made])


@pytest.mark.slow
def test_head_and_brows_go_with_the_melody() -> None:
    """Where the voice rises brows go up and the head moves; where it goes on evenly, they need not."""
    window = slice(int(1.2 * 25), int(1.8 * 25))
    rising, even = melody(6, 1.35), melody(0, 1.35)
    brows = [tracks("browOuterUp", sound)[:, window].mean(1) for sound in (rising, even)]
    heads = [np.ptp(tracks("pitch", sound)[:, window], axis=1) for sound in (rising, even)]
    for here, there in (brows, heads):
        assert (here - there).mean() > 3 * (here - there).std() / np.sqrt(len(here))


@pytest.mark.slow
def test_blinks_wait_for_the_end_of_a_phrase() -> None:
    starts = [
        b.first / 25 for row in tracks("eyeBlink", melody(3, 1.35), 200) for b in find_blinks(row)
    ]
    near = np.histogram(starts, [2.35, 2.6])[0][0] / 0.25
    assert near > 2 * np.mean(np.histogram(starts, [0.6, 1.8])[0] / 1.2)


def test_whoever_is_silent_hardly_moves_and_breathes() -> None:
    frames = int(SECONDS * 25)
    speech, silence, prosody = [], [], listen(melody(4, 1.35), PHONEMES, frames)
    for number in range(20):
        rng = np.random.default_rng([9, number])
        quiet = animate([TimedPhoneme("_", 0, SECONDS)], frames, "neutral", False, rng)
        silence.append(motion(quiet.performance))
        rng = np.random.default_rng([9, number])
        spoken = animate(PHONEMES, frames, "neutral", False, rng, None, prosody)
        speech.append(motion(spoken.performance))
    columns = [MOTION.index(name) for name in ("yaw", "pitch", "roll")]
    moved = [
        np.abs(np.diff(np.stack(part)[:, :, columns], axis=1)).mean() for part in (silence, speech)
    ]
    assert 0 < moved[0] < 0.6 * moved[1]
    assert np.stack(silence)[:, :, MOTION.index("jawOpen")].max() < 0.05, "lips stay closed"


def test_sides_differ_by_the_manner() -> None:
    frames = int(SECONDS * 25)
    prosody = listen(melody(4, 1.35), PHONEMES, frames)
    for side in (-0.3, 0.3):
        rng = np.random.default_rng(3)
        manner = Manner(mouth_side=side, brow_side=side)
        units = animate(PHONEMES, frames, "happy", True, rng, manner, prosody).performance.units
        left, right = (
            units[:, UNIT_NAMES.index(f"mouthSmile{end}")].mean() for end in ("Left", "Right")
        )
        assert (left - right) * side > 0 and abs(left - right) > 0.2 * (left + right) / 2
        blink = [units[:, UNIT_NAMES.index(f"eyeBlink{end}")] for end in ("Left", "Right")]
        assert np.array_equal(*blink), "lids close together"


def test_last_phonemes_end_with_their_sound(corpus_folder) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * 150 * time) * (time < 0.5)
    said = [TimedPhoneme("h", 0, 0.2), TimedPhoneme("ɑ", 0.2, 0.8), TimedPhoneme("_", 0.8, 1)]
    ended = end_with_sound(said, sound)
    assert ended[0] == said[0] and ended[1].end == pytest.approx(0.52, abs=0.015)
    assert ended[2] == TimedPhoneme("_", ended[1].end, 1)
    assert end_with_sound(ended, sound) == ended, "the same again"
    cut = end_with_sound(said[:2], sound)
    assert cut[-1].phoneme == "_" and cut[-1].end == 0.8
    for clip in Corpus(corpus_folder).clips:
        phones = clip.transcript.phonemes
        assert end_with_sound(phones, clip.read_audio())[-1].start == pytest.approx(
            phones[-1].start, abs=0.02
        )
