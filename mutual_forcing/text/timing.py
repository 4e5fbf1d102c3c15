"""Text to a timed transcript, and a transcript to the tokens that each chunk reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from ..chunks import CHUNK_SECONDS, chunks_for_seconds
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
LEAD_SECONDS = 0.3
TAIL_SECONDS = 0.35
"""Silence after the last word at least: what a sentence rings out in. It lasts to the end of a chunk."""
SHORTEST_GAP = 0.035
"""Seconds between two words that are no pause."""


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
    """Lay words along the time axis as the predictor has their phonemes and the pauses between them.

    What comes before the first word is as long as ever; the last pause ends with a chunk, as in the corpus.
    """
    parts = [(*word.phonemes, PAUSE + word.sign) for word in words]
    names = [PAUSE, *(phoneme for part in parts for phoneme in part)]
    ids = [phoneme_id(phoneme, duration.known_phonemes) for phoneme in names]
    seconds = iter([LEAD_SECONDS, *duration.predict(ids, pace)[1:]])
    clock = next(seconds)
    phonemes, timed = [TimedPhoneme(PAUSE, 0.0, clock)], []
    for word, part in zip(words, parts, strict=True):
        begin = clock
        for phoneme in part[:-1]:
            phonemes.append(TimedPhoneme(phoneme, clock, clock := clock + next(seconds)))
        timed.append(TimedWord(word.text, begin, clock))
        pause, length = part[-1], next(seconds)
        if word is words[-1]:
            length = chunks_for_seconds(clock + TAIL_SECONDS) * CHUNK_SECONDS - clock
        if pause != PAUSE or length >= SHORTEST_GAP:
            phonemes.append(TimedPhoneme(pause, clock, clock := clock + length))
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


def _near(transcript: Transcript, chunk: int) -> list[TimedPhoneme]:
    origin = chunk * CHUNK_SECONDS
    low = origin - TEXT_MARGIN_SECONDS
    high = origin + CHUNK_SECONDS + TEXT_MARGIN_SECONDS
    near = [p for p in transcript.phonemes if p.end > low and p.start < high]
    middle = origin + CHUNK_SECONDS / 2
    if len(near) > MAX_PHONEMES:
        near = sorted(near, key=lambda p: abs((p.start + p.end) / 2 - middle))[:MAX_PHONEMES]
        near = sorted(near, key=lambda p: p.start)
    return near
