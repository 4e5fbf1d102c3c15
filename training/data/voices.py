"""Voices of the corpus with exact phoneme times: Kokoro-82M's (kokoro.py), averaged, as children.

Children are grown-up voices played back faster: pitch and formants move together, and every time stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.audio import resample
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import PAUSE, Language, is_pause, plain
from mutual_forcing.text.phonemes import Word, read
from mutual_forcing.types import TimedPhoneme, TimedWord

from . import kokoro
from .prosody import RATE, power
from .sentences import Split

LOUDNESS = 0.08
"""Root mean square of the speech, about -22 dBFS."""
HEARD = -35.0
"""Decibels below the loud parts of a sound from which on nothing is heard."""
RELEASE, LEAST = 0.02, 0.06
"""Seconds that a phoneme lasts beyond its sound, and at least: the closure of a last stop is silent."""
MIN_PAUSE = 0.05
HELDOUT: dict[str, Split] = {
    "bf_alice": "development", "am_onyx": "development",
    "jf_nezumi": "development", "jf_nezumi+bf_alice": "development",
    "af_sky": "test", "bm_daniel": "test", "jf_nezumi+jm_kumo": "test", "jm_kumo+bm_daniel": "test",
}  # fmt: skip
"""Styles of one split alone. Japanese ones are so few that averages for tests have a half of training's one
man.
"""
BLEND_SHARE = {"en": 0.5, "ja": 0.8}
"""Training voices that are averages of two styles. Japanese ones are averages with an English style, which
says the same words as clearly and sounds better: DistillMOS of jf_alpha 4.02, with af_heart 4.51.
"""


@dataclass(frozen=True)
class Voice:
    """A style of kokoro.py, or several joined by "+" for their average; the factor on pitch and formants."""

    style: str
    shift: float = 1.0

    @property
    def name(self) -> str:
        """As manifests call it."""
        return self.style if self.shift == 1 else f"{self.style}_child"

    @property
    def sex(self) -> str:
        """ "female" or "male"."""
        return "female" if self.style[1] == "f" else "male"

    @property
    def language(self) -> Language:
        """The one that it speaks."""
        return "ja" if self.style[0] == "j" else "en"


def speakers(language: Language, split: Split) -> list[Voice]:
    """The voices of a split as they are: neither averaged by chance nor children."""
    if split == "train":
        known = kokoro.JAPANESE if language == "ja" else kokoro.ENGLISH
        return [Voice(name) for name in known if name not in HELDOUT]
    own = [Voice(name) for name, only in HELDOUT.items() if only == split]
    return [voice for voice in own if voice.language == language]


def draw_voice(
    language: Language, split: Split, sex: str, child: bool, rng: np.random.Generator
) -> Voice:
    """A voice of a split that fits; where there is none of that sex, one of the other."""
    pool = [voice.style for voice in speakers(language, split)]
    pool = [name for name in pool if name[1] == sex[0]] or pool
    style = str(rng.choice(pool))
    likely = pool if language == "en" else [voice.style for voice in speakers("en", split)]
    others = [name for name in likely if name[1] == style[1] and name != style]
    if split == "train" and others and rng.random() < BLEND_SHARE[language]:
        both = style, str(rng.choice(others))
        # The first one of an average tells its language.
        style = "+".join(sorted(both) if language == "en" else both)
    return Voice(style, round(float(rng.uniform(1.08, 1.18)), 3) if child else 1.0)


@dataclass(frozen=True)
class Speech:
    """audio float32 [N]; every phoneme (pauses included) and word, in seconds."""

    audio: np.ndarray
    phonemes: tuple[TimedPhoneme, ...]
    words: tuple[TimedWord, ...]


def say(text: str, voice: Voice, rng: np.random.Generator) -> Speech:
    """Say a text in the voice's language, at a pace drawn for it."""
    words = read(text, voice.language).words
    pace = float(rng.uniform(0.95, 1.15)) * voice.shift
    audio, phones = kokoro.synthesize(_segments(words, voice.style), voice.style, 1 / pace)
    audio = _played(audio, voice.shift)
    phones = [TimedPhoneme(p.phoneme, p.start / voice.shift, p.end / voice.shift) for p in phones]
    return _finish(audio, phones, words, rng)


def _segments(words: Sequence[Word], style: str) -> list[kokoro.Segment]:
    """Phonemes and pauses with the signs by which Kokoro reads them; Japanese ones are such signs."""
    japanese, british = style[0] == "j", style[0] == "b"
    segments: list[kokoro.Segment] = []
    for word in words:
        for phoneme, stressed in zip(word.phonemes, word.stressed, strict=True):
            signs = phoneme if japanese else kokoro.english_signs(stressed, british)
            segments.append((phoneme, signs))
        segments.append((PAUSE + word.sign, word.sign + " "))
    return [*segments[:-1], (PAUSE + words[-1].sign, words[-1].sign)]


def _played(audio: np.ndarray, shift: float) -> np.ndarray:
    """Kokoro's sound at the corpus's rate, `shift` times faster; a thousandth is exact enough."""
    ratio = round(1000 * kokoro.RATE * shift / SAMPLE_RATE)
    return audio if ratio == 1000 else resample(audio, ratio, 1000)


def _finish(
    audio: np.ndarray,
    phones: list[TimedPhoneme],
    words: Sequence[Word],
    rng: np.random.Generator,
) -> Speech:
    """Merge pauses, find the words, set loudness, and put silence of random length around."""
    merged = _merge_pauses(phones)
    lead = float(rng.uniform(0.1, 0.4))
    rate = SAMPLE_RATE
    begin, end = merged[0].start, min(merged[-1].end, len(audio) / rate)
    if is_pause(merged[0].phoneme):
        begin = max(merged[0].end - lead, 0.0)
    if is_pause(merged[-1].phoneme):
        end = min(end, merged[-1].start + float(rng.uniform(0.15, 0.4)))
    audio = audio[round(begin * rate) : round(end * rate)]
    audio = audio / max(1e-4, float(np.sqrt(np.mean(audio**2)))) * LOUDNESS
    timed = [
        TimedPhoneme(p.phoneme, max(0.0, p.start - begin), min(end, p.end) - begin) for p in merged
    ]
    audio = np.clip(audio, -0.99, 0.99)
    timed = end_with_sound(timed, audio)
    return Speech(audio, tuple(timed), tuple(_word_times(timed, words)))


def end_with_sound(phones: Sequence[TimedPhoneme], audio: np.ndarray) -> list[TimedPhoneme]:
    """Let what comes before a pause end where it is no longer heard in sound [N] at 24 kHz.

    Kokoro counts half of the silence after a phrase as its last phoneme's: 0.16 s of it in English, 0.36 in
    Japanese, and a mouth would stay open for so long.
    """
    steps = len(audio) * RATE // SAMPLE_RATE
    if not steps:
        return list(phones)
    # Over two steps, so that the zeros of a low voice are no silence.
    loud = np.convolve(power(audio, steps), np.ones(2) / 2, "same")
    heard = loud > np.quantile(loud, 0.95) * 10 ** (HEARD / 10)
    ended = list(phones)
    for index, phone in enumerate(phones):
        last = index + 1 == len(phones)
        if is_pause(phone.phoneme) or not (last or is_pause(phones[index + 1].phoneme)):
            continue
        sound = np.flatnonzero(heard[int(phone.start * RATE) : int(phone.end * RATE)])
        silent_from = phone.start + (sound[-1] + 1) / RATE if len(sound) else phone.start
        least = min(phone.end, phone.start + LEAST)
        end = float(np.clip(silent_from + RELEASE, least, phone.end))
        ended[index] = TimedPhoneme(phone.phoneme, phone.start, end)
        if not last:
            after = phones[index + 1]
            ended[index + 1] = TimedPhoneme(after.phoneme, end, after.end)
        elif end < phone.end:
            ended.append(TimedPhoneme(PAUSE, end, phone.end))
    return ended


def _merge_pauses(phones: list[TimedPhoneme]) -> list[TimedPhoneme]:
    """Join neighbouring pauses, and give gaps under 50 ms to the phoneme before them."""
    merged: list[TimedPhoneme] = []
    for phone in phones:
        silent = is_pause(phone.phoneme)
        short = phone.end - phone.start < MIN_PAUSE and len(phone.phoneme) == 1
        if silent and merged and (short or is_pause(merged[-1].phoneme)):
            # The longer name holds a sign.
            name = merged[-1].phoneme
            name = max(name, phone.phoneme, key=len) if is_pause(name) else name
            merged[-1] = TimedPhoneme(name, merged[-1].start, phone.end)
        elif phone.end > phone.start:
            merged.append(phone)
    return merged


def _word_times(phones: Sequence[TimedPhoneme], words: Sequence[Word]) -> list[TimedWord]:
    """When each word is said: its phonemes in those spoken, which may have lost some."""
    spoken = [p for p in phones if not is_pause(p.phoneme)]
    wanted = [(p, w) for w, word in enumerate(words) for p in word.phonemes]
    pairs = _align([plain(p.phoneme) for p in spoken], [plain(p) for p, _ in wanted])
    spans: dict[int, list[TimedPhoneme]] = {}
    for spoken_index, wanted_index in pairs:
        spans.setdefault(wanted[wanted_index][1], []).append(spoken[spoken_index])
    return [
        TimedWord(words[w].text, min(p.start for p in part), max(p.end for p in part))
        for w, part in sorted(spans.items())
    ]


def _align(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Levenshtein alignment: index pairs of matched or substituted items."""
    cost = np.zeros((len(first) + 1, len(second) + 1))
    cost[:, 0], cost[0] = np.arange(len(first) + 1), np.arange(len(second) + 1)
    for i, a in enumerate(first, 1):
        for j, b in enumerate(second, 1):
            swap = cost[i - 1, j - 1] + (a != b) * 1.5
            cost[i, j] = min(swap, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    pairs, i, j = [], len(first), len(second)
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (first[i - 1] != second[j - 1]) * 1.5:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
