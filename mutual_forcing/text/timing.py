"""Text to a timed transcript, and a transcript to the tokens that each chunk reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from ..chunks import CHUNK_SECONDS
from ..types import TextTokens, TimedPhoneme, TimedWord, Transcript
from .captions import caption_ids
from .inventory import (
    NAMES,
    PAUSE,
    PHONEMES,
    LanguageChoice,
    check_language,
    phoneme_id,
    spoken_languages,
)
from .normalise import find_language
from .phonemes import Reading, Word, read

TEXT_MARGIN_SECONDS = 1.0
"""A chunk reads the phonemes from this long before it to this long after it."""
MAX_PHONEMES = 40
"""Phonemes a chunk reads at most; the farthest are dropped."""
PAUSE_SECONDS = {"": 0.0, ",": 0.2, ".": 0.4, "!": 0.4, "?": 0.4}
LEAD_SECONDS = 0.3
TAIL_SECONDS = 0.35


class Durations(Protocol):
    """What predicts phoneme durations: the model's DurationPredictor."""

    known_phonemes: int
    """How many phonemes of the inventory it knows, from the first one on."""

    def predict(self, ids: list[int], pace: float = 0.0) -> list[float]:
        """Seconds of each phoneme."""
        ...


def read_text(text: str, known_phonemes: int, language: LanguageChoice = "auto") -> Reading:
    """How a model that knows so many phonemes will say a text.

    Raises ValueError, in one sentence, for text that cannot be said and for a language that the model does
    not speak.
    """
    if text.strip():
        # Before a dictionary is loaded that the model has no use for.
        check_language(find_language(text, language), known_phonemes)
    return read(text, language)


def time_text(
    text: str, duration: Durations, pace: float = 0.0, language: LanguageChoice = "auto"
) -> Transcript:
    """Phonemise a text and predict when each phoneme is spoken, from 0 s.

    pace: 0 is average, 0.2 about 20 % slower. The transcript names what cannot be spoken. Raises ValueError
    as read_text does.
    """
    reading = read_text(text, duration.known_phonemes, language)
    return replace(time_words(reading.words, duration, pace), unspoken=reading.unspoken)


def time_words(words: Sequence[Word], duration: Durations, pace: float = 0.0) -> Transcript:
    """Lay words along the time axis with the predictor's phoneme durations and fixed pauses."""
    known = duration.known_phonemes
    ids = [phoneme_id(phoneme, known) for word in words for phoneme in word.phonemes]
    seconds = iter(duration.predict(ids, pace))
    clock = LEAD_SECONDS
    phonemes, timed = [TimedPhoneme(PAUSE, 0.0, clock)], []
    for word in words:
        begin = clock
        for phoneme in word.phonemes:
            end = clock + next(seconds)
            phonemes.append(TimedPhoneme(phoneme, clock, end))
            clock = end
        timed.append(TimedWord(word.text, begin, clock))
        pause = PAUSE_SECONDS[word.sign]
        if pause:
            phonemes.append(TimedPhoneme(PAUSE + word.sign, clock, clock + pause))
            clock += pause
    phonemes.append(TimedPhoneme(PAUSE, clock, clock + TAIL_SECONDS))
    return Transcript(tuple(phonemes), tuple(timed))


def check_transcript(transcript: Transcript, known_phonemes: int) -> None:
    """Raise ValueError, in one sentence, for phonemes that a model does not know which knows so many."""
    phonemes = dict.fromkeys(p.phoneme for p in transcript.phonemes)
    unknown = [p for p in phonemes if phoneme_id(p, known_phonemes) > known_phonemes]
    if unknown:
        spoken = " and ".join(NAMES[name] for name in spoken_languages(known_phonemes))
        raise ValueError(
            f"This checkpoint does not know the phonemes {', '.join(unknown)}: use those of {spoken}, or "
            "load a checkpoint that was trained with them."
        )


def text_tokens(
    transcript: Transcript | None,
    caption: str,
    first_chunk: int,
    chunks: int,
    device: torch.device | str = "cpu",
    known_phonemes: int = len(PHONEMES),
) -> TextTokens:
    """The phonemes near each of `chunks` chunks from `first_chunk` on, batch size 1, for a model that knows
    so many of them.

    None as transcript leaves every chunk without phonemes.
    """
    shape = (1, chunks, MAX_PHONEMES)
    ids = torch.zeros(shape, dtype=torch.long)
    start, end = torch.zeros(shape), torch.zeros(shape)
    for k in range(chunks):
        origin = (first_chunk + k) * CHUNK_SECONDS
        near = _near(transcript or Transcript(), first_chunk + k)
        for p, phoneme in enumerate(near):
            ids[0, k, p] = phoneme_id(phoneme.phoneme, known_phonemes)
            start[0, k, p], end[0, k, p] = phoneme.start - origin, phoneme.end - origin
    words = torch.tensor([caption_ids(caption)])
    return TextTokens(ids.to(device), start.to(device), end.to(device), words.to(device))


def read_until(chunk: int) -> float:
    """The moment of the stream, in seconds, up to which a chunk reads phonemes."""
    return (chunk + 1) * CHUNK_SECONDS + TEXT_MARGIN_SECONDS


def _near(transcript: Transcript, chunk: int) -> list[TimedPhoneme]:
    origin = chunk * CHUNK_SECONDS
    low, high = origin - TEXT_MARGIN_SECONDS, read_until(chunk)
    near = [p for p in transcript.phonemes if p.end > low and p.start < high]
    middle = origin + CHUNK_SECONDS / 2
    if len(near) > MAX_PHONEMES:
        near = sorted(near, key=lambda p: abs((p.start + p.end) / 2 - middle))[:MAX_PHONEMES]
        near = sorted(near, key=lambda p: p.start)
    return near
