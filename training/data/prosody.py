"""What of speech moves a head: its phrases, its accents, how high and how loud it is.

Heads nod on accents and rise with the voice's pitch, brows go up with it, and eyes blink where a phrase ends
(Graf et al. 2002, Busso et al. 2007, Nakano and Kitazawa 2010). Tracks have 200 values a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import is_pause
from mutual_forcing.types import TimedPhoneme

RATE = 200
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 500.0
"""In hertz: children speak up to there."""
PAUSE = 0.12
"""Seconds that end a phrase."""
SPAN = 0.3
"""Seconds between accents, at least."""
ACCENTED = 0.45
"""The share of a phrase's vowels that may carry an accent."""


@dataclass(frozen=True)
class Accent:
    """A vowel that stands out. time in seconds; strength 0..1; rise: semitones above its phrase's mean."""

    time: float
    strength: float
    rise: float


@dataclass(frozen=True)
class SpokenPhrase:
    """What is said without a pause, in seconds; `pause` is how long the one before it lasts."""

    start: float
    end: float
    pause: float


@dataclass(frozen=True)
class Prosody:
    """pitch [N]: semitones above the voice's median, smooth, 0 where nobody speaks; loudness [N]: 0..1, of
    the loudest; activity [N]: 1 in phrases, 0 between them, smooth.
    """

    pitch: np.ndarray
    loudness: np.ndarray
    activity: np.ndarray
    phrases: tuple[SpokenPhrase, ...]
    accents: tuple[Accent, ...]


def hear(
    audio: np.ndarray,
    phonemes: Sequence[TimedPhoneme],
    is_vowel: Callable[[TimedPhoneme], bool],
    samples: int,
) -> Prosody:
    """The prosody of sound [N] at 24 kHz whose phonemes are known, for `samples` values."""
    import pyworld  # in training/requirements.txt alone

    hertz, _ = pyworld.dio(
        audio.astype(np.float64), SAMPLE_RATE, LOWEST_PITCH, HIGHEST_PITCH, frame_period=1000 / RATE
    )
    phrases = find_phrases(phonemes)
    spoken = _inside(phrases, samples)
    voiced = np.zeros(samples, bool)
    count = min(samples, len(hertz))
    voiced[:count] = (hertz[:count] > 0) & (spoken[:count] > 0)
    semitones = np.zeros(samples)
    if voiced.any():
        heard = 12 * np.log2(hertz[:count][voiced[:count]])
        at = np.flatnonzero(voiced)
        # Octave errors of the pitch tracker are no melody.
        semitones = np.interp(np.arange(samples), at, np.clip(heard - np.median(heard), -6, 8))
    pitch = smooth(semitones * spoken, 0.05)
    energy = smooth(power(audio, samples), 0.03)
    loudness = np.sqrt(energy / max(float(np.quantile(energy, 0.98)), 1e-9)).clip(0, 1)
    found = _accents(phonemes, phrases, is_vowel, pitch, loudness)
    return Prosody(pitch, loudness, smooth(spoken, 0.15), phrases, found)


def imagine(
    phonemes: Sequence[TimedPhoneme],
    is_vowel: Callable[[TimedPhoneme], bool],
    samples: int,
    rng: np.random.Generator,
) -> Prosody:
    """A prosody that phonemes without a sound might have: every phrase falls, and some vowels stand out."""
    phrases = find_phrases(phonemes)
    spoken, time = _inside(phrases, samples), np.arange(samples) / RATE
    pitch, loudness = np.zeros(samples), 0.3 * spoken
    for phrase in phrases:
        within = (time >= phrase.start) & (time < phrase.end)
        way = (time[within] - phrase.start) / (phrase.end - phrase.start)
        pitch[within] = 2 - 4 * way
    for phone in phonemes:
        if is_vowel(phone) and phone.end - phone.start > 0.09 and rng.random() < ACCENTED:
            accent = bump(time - (phone.start + phone.end) / 2, 0.08)
            pitch += rng.normal(2, 2) * accent
            loudness += 0.6 * accent
    pitch, loudness = smooth(pitch * spoken, 0.05), loudness.clip(0, 1)
    found = _accents(phonemes, phrases, is_vowel, pitch, loudness)
    return Prosody(pitch, loudness, smooth(spoken, 0.15), phrases, found)


def find_phrases(phonemes: Sequence[TimedPhoneme]) -> tuple[SpokenPhrase, ...]:
    """What lies between pauses of PAUSE seconds and more, and between the ends."""
    found: list[SpokenPhrase] = []
    start = end = None
    before = 0.0
    for phone in phonemes:
        if is_pause(phone.phoneme):
            continue
        if end is not None and start is not None and phone.start - end >= PAUSE:
            found.append(SpokenPhrase(start, end, start - before))
            before, start = end, None
        start, end = phone.start if start is None else start, phone.end
    if start is not None and end is not None:
        found.append(SpokenPhrase(start, end, start - before))
    return tuple(found)


def power(audio: np.ndarray, samples: int) -> np.ndarray:
    """The mean square of sound [N] at 24 kHz in each of `samples` steps, 0 after its end."""
    hop = SAMPLE_RATE // RATE
    padded = np.pad(audio, (0, max(0, samples * hop - len(audio))))[: samples * hop]
    return np.square(padded.reshape(samples, hop)).mean(1)


def bump(time: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian of height 1 around 0 s, `width` seconds wide."""
    return np.exp(-0.5 * (time / width) ** 2)


def smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing of [N] or [N, C] along the first axis; the ends are held."""
    reach = int(4 * seconds * RATE)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * RATE)) ** 2)
    kernel /= kernel.sum()
    flat = values.reshape(len(values), -1)
    padded = np.pad(flat, ((reach, reach), (0, 0)), mode="edge")
    out = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], 1)
    return out.reshape(values.shape)


def _inside(phrases: Sequence[SpokenPhrase], samples: int) -> np.ndarray:
    """1 within phrases, 0 elsewhere: [N]."""
    time = (np.arange(samples) + 0.5) / RATE
    return sum((((time >= p.start) & (time < p.end)) for p in phrases), np.zeros(samples))


def _accents(
    phonemes: Sequence[TimedPhoneme],
    phrases: Sequence[SpokenPhrase],
    is_vowel: Callable[[TimedPhoneme], bool],
    pitch: np.ndarray,
    loudness: np.ndarray,
) -> tuple[Accent, ...]:
    """The vowels of each phrase that are higher, louder and longer than its others, SPAN apart."""
    found: list[Accent] = []
    for phrase in phrases:
        rows = []
        for phone in phonemes:
            if phrase.start <= phone.start < phrase.end and is_vowel(phone):
                middle = (phone.start + phone.end) / 2
                at = min(int(middle * RATE), len(pitch) - 1)
                rows.append((middle, pitch[at], loudness[at], phone.end - phone.start))
        if not rows:
            continue
        time, high, loud, long = np.array(rows).T
        rise = high - high.mean()
        # Semitones, and shares of loudness and of seconds, by about what stands out in each.
        weight = rise / 4 + (loud - loud.mean()) / 0.4 + (long - long.mean()) / 0.15
        taken: list[int] = []
        for index in np.argsort(-weight)[: int(np.ceil(ACCENTED * len(weight)))]:
            if all(abs(time[index] - time[other]) >= SPAN for other in taken):
                taken.append(int(index))
        strengths = 1 / (1 + np.exp(-(weight - 0.3) * 2))
        found += [
            Accent(float(time[i]), float(strengths[i]), float(rise[i])) for i in sorted(taken)
        ]
    return tuple(found)
