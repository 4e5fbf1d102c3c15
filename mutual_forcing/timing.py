"""Text to a timed transcript, and a transcript to the tokens that each chunk reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .caption import caption_ids
from .chunks import CHUNK_SECONDS
from .models.duration import DurationPredictor
from .text import PHONEMES, Word, phonemize
from .types import TextTokens, TimedPhoneme, TimedWord, Transcript

TEXT_MARGIN_SECONDS = 1.0
"""A chunk reads the phonemes from this long before it to this long after it."""
MAX_PHONEMES = 40
"""Phonemes a chunk reads at most; the farthest are dropped."""
PAUSE_SECONDS = {"none": 0.0, "comma": 0.2, "sentence": 0.4}
LEAD_SECONDS = 0.3
TAIL_SECONDS = 0.35
_IDS = {phoneme: index + 1 for index, phoneme in enumerate(PHONEMES)}


def phoneme_id(phoneme: str) -> int:
    """Id of a phoneme (1 and up); raises ValueError for one outside the inventory."""
    if phoneme not in _IDS:
        raise ValueError(
            f"Unknown phoneme {phoneme!r}; use the symbols of mutual_forcing.text.PHONEMES."
        )
    return _IDS[phoneme]


def time_text(text: str, duration: DurationPredictor, pace: float = 0.0) -> Transcript:
    """Phonemise English text and predict when each phoneme is spoken, from 0 s.

    pace: 0 is average, 0.2 about 20 % slower. Raises ValueError for text that cannot be spoken.
    """
    return time_words(phonemize(text), duration, pace)


def time_words(words: Sequence[Word], duration: DurationPredictor, pace: float = 0.0) -> Transcript:
    """Lay words along the time axis with the predictor's phoneme durations and fixed pauses."""
    flat = [p for word in words for p in word.phonemes]
    seconds = iter(duration.predict([phoneme_id(p) for p in flat], pace))
    clock = LEAD_SECONDS
    phonemes, timed = [TimedPhoneme("_", 0.0, clock)], []
    for word in words:
        begin = clock
        for phoneme in word.phonemes:
            end = clock + next(seconds)
            phonemes.append(TimedPhoneme(phoneme, clock, end))
            clock = end
        timed.append(TimedWord(word.text, begin, clock))
        pause = PAUSE_SECONDS[word.pause]
        if pause:
            phonemes.append(TimedPhoneme("_", clock, clock + pause))
            clock += pause
    phonemes.append(TimedPhoneme("_", clock, clock + TAIL_SECONDS))
    return Transcript(tuple(phonemes), tuple(timed))


def text_tokens(
    transcript: Transcript | None,
    caption: str,
    first_chunk: int,
    chunks: int,
    device: torch.device | str = "cpu",
) -> TextTokens:
    """The phonemes near each of `chunks` chunks from `first_chunk` on, batch size 1.

    None as transcript leaves every chunk without phonemes.
    """
    shape = (1, chunks, MAX_PHONEMES)
    ids = torch.zeros(shape, dtype=torch.long)
    start, end = torch.zeros(shape), torch.zeros(shape)
    for k in range(chunks if transcript else 0):
        origin = (first_chunk + k) * CHUNK_SECONDS
        near = _near(transcript, first_chunk + k)
        for p, phoneme in enumerate(near):
            ids[0, k, p] = phoneme_id(phoneme.phoneme)
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
