"""What is said in a film, and when: a transcript that lies beside it, aligned, else what is recognised.

A film NAME.mp4 may have NAME.align (words with their times in 1/25,000 s, as GRID has them), NAME.srt or
NAME.vtt (subtitles), or NAME.txt (words alone). Words are read as the app reads a text, and pocketsphinx
finds where these very phonemes are; without a transcript its phoneme recogniser hears them. Both know English
alone.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mutual_forcing.text.inventory import ARPABET, PAUSE, is_pause, plain
from mutual_forcing.text.phonemes import MAX_CHARACTERS, Word, read
from mutual_forcing.text.recognition import hear_phonemes, listen_to, open_decoder, segments
from mutual_forcing.text.timing import SHORTEST_GAP
from mutual_forcing.types import TimedPhoneme, TimedWord, Transcript

from .clip_maker import to_end
from .own_films import FilmError
from .voice_activity import RATE

GRID_RATE = 25_000
GRID_SILENCE = ("sil", "sp")
MAX_TRANSCRIPT_BYTES = 2 * 2**20
LONGEST_UNTIMED = 600.0
"""Seconds of a film whose words may come without times."""
AROUND_CUE = 0.3
"""Seconds before and after a subtitle within which its words may be said."""
HURRIED, SHORTEST_PHONEME = 0.4, 0.035
"""Share of phonemes that are as short as the aligner can make them, from which on the words do not fit."""
_ALIGNED = {name: symbol.upper() for symbol, name in ARPABET.items()} | {"ə": "AH"}
_TIMES = re.compile(
    r"(?:(\d+):)?(\d{1,2}):(\d{1,2}[.,]\d{1,3})\s*-->\s*(?:(\d+):)?(\d{1,2}):(\d{1,2}[.,]\d{1,3})"
)
_MARKUP = re.compile(r"<[^>]*>|\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[♪#]")


@dataclass(frozen=True)
class Saying:
    """Words of a transcript, said between start and end in seconds, whole of that time if `exact`; without
    times (None) somewhere in the film.
    """

    text: str
    start: float | None = None
    end: float | None = None
    exact: bool = False


@dataclass(frozen=True)
class FilmWords:
    """All that is said in a film that has a transcript: phonemes without gaps to its end, words, and where
    the transcript does not fit what is heard (start and end in seconds).
    """

    phonemes: tuple[TimedPhoneme, ...]
    words: tuple[TimedWord, ...]
    doubtful: tuple[tuple[float, float], ...]

    def part(self, start: float, end: float) -> tuple[Transcript, str]:
        """What is said between two moments, from 0 s on, and it as text."""
        inside = [p for p in self.phonemes if p.end > start and p.start < end]
        cut = [
            TimedPhoneme(p.phoneme, max(p.start, start) - start, min(p.end, end) - start)
            for p in inside
        ]
        words = [w for w in self.words if w.end > start and w.start < end]
        timed = [
            TimedWord(w.word, max(w.start, start) - start, min(w.end, end) - start) for w in words
        ]
        text = " ".join(word.word for word in words)
        return Transcript(tuple(cut), tuple(timed)), text[:1].upper() + text[1:] + "." * bool(text)

    def doubted(self, start: float, end: float) -> bool:
        """Whether the transcript does not fit between two moments."""
        return any(a < end and b > start for a, b in self.doubtful)


def read_transcript(film: Path) -> list[Saying] | None:
    """What the transcript beside a film says; None where there is none.

    Raises FilmError for one that cannot be read.
    """
    for suffix, parse in _KINDS.items():
        path = film.with_suffix(suffix)
        if path.is_symlink():
            raise FilmError(f"Its transcript {path.name} is a link; copy the file itself there.")
        if path.is_file():
            try:
                if path.stat().st_size > MAX_TRANSCRIPT_BYTES:
                    raise FilmError(f"Its transcript {path.name} is too large.")
                sayings = parse(path.read_text(encoding="utf-8-sig"))
            except FilmError:
                raise
            except (OSError, UnicodeDecodeError) as error:
                raise FilmError(f"Its transcript {path.name} cannot be read as text.") from error
            except ValueError as error:
                raise FilmError(
                    f"Its transcript {path.name} is not of the form {suffix[1:]}."
                ) from error
            if not sayings:
                raise FilmError(f"Its transcript {path.name} has no words.")
            return sayings
    return None


def _of_align(text: str) -> list[Saying]:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    times = [(int(start), int(end), word) for start, end, word in rows]
    if any(start >= end for start, end, _ in times):
        raise ValueError("A word must end after it begins.")
    return [
        Saying(word, start / GRID_RATE, end / GRID_RATE, exact=True)
        for start, end, word in times
        if word.lower() not in GRID_SILENCE
    ]


def _of_subtitles(text: str) -> list[Saying]:
    sayings, text = [], text.replace("\r\n", "\n")
    cues = list(_TIMES.finditer(text))
    for found, after in itertools.zip_longest(cues, cues[1:]):
        # To the next empty line, or to the next times and the number before them.
        _, _, block = text[found.end() : after.start() if after else None].partition("\n")
        block, rest = (*re.split(r"\n\s*\n", "\n" + block, maxsplit=1), "")[:2]
        if after and not rest:
            block = re.sub(r"\n\s*\d*\s*$", "", block)
        spoken = _MARKUP.sub(" ", block)
        spoken = " ".join(line.strip().lstrip("-–") for line in spoken.splitlines()).strip()
        hours, minutes, seconds = zip(found.groups()[:3], found.groups()[3:], strict=True)
        start, end = (
            3600 * int(h or 0) + 60 * int(m) + float(s.replace(",", "."))
            for h, m, s in zip(hours, minutes, seconds, strict=True)
        )
        if spoken and end > start:
            sayings.append(Saying(spoken, start, end))
    return sayings


def _of_words(text: str) -> list[Saying]:
    return [Saying(" ".join(text.split()))] if text.strip() else []


_KINDS = {".align": _of_align, ".srt": _of_subtitles, ".vtt": _of_subtitles, ".txt": _of_words}


def align(
    sound: np.ndarray, sayings: Sequence[Saying], tell: Callable[[float], None] = lambda _: None
) -> FilmWords:
    """When the words of a transcript are said in float mono 16 kHz [N].

    tell: is called with 0 now and then, as a sign that it goes on. Raises FilmError for words that cannot be
    said or are not what is heard, unless they have times: then it is noted where.
    """
    seconds = len(sound) / RATE
    timed: list[_Said] = []
    doubtful: list[tuple[float, float]] = []
    if sayings[0].exact:
        timed += _exact(sound, sayings)
    elif sayings[0].start is None:
        if seconds > LONGEST_UNTIMED:
            raise FilmError(
                f"Its transcript has no times and it lasts longer than {LONGEST_UNTIMED / 60:.0f} "
                "minutes: give subtitles (.srt) instead, or take the transcript away."
            )
        found = _find(sound, _readings(sayings[0].text))
        if found is None:
            raise FilmError("Its transcript is not what is heard.")
        timed += found
    else:
        for saying in sayings:
            assert saying.start is not None and saying.end is not None
            tell(0.0)
            before = timed[-1].end if timed else 0.0
            start = max(before, saying.start - AROUND_CUE, 0.0)
            end = min(saying.end + AROUND_CUE, seconds)
            stretch = sound[round(start * RATE) : round(end * RATE)]
            found = _find(stretch, _readings(saying.text)) if end > start else None
            if found is None:
                doubtful.append((saying.start, saying.end))
            else:
                timed += [said.moved(start) for said in found]
    phonemes, words = _joined(timed, seconds)
    return FilmWords(phonemes, words, tuple(doubtful))


def recognise(sound: np.ndarray, seconds: float) -> Transcript:
    """The phonemes that are heard in float mono 24 kHz, to the end of `seconds`, without words."""
    heard = hear_phonemes(sound).phonemes
    joined = [TimedPhoneme(PAUSE, 0.0, 0.0)]
    for phoneme in heard:
        if is_pause(phoneme.phoneme) and is_pause(joined[-1].phoneme):
            joined[-1] = replace(joined[-1], end=phoneme.end)
        else:
            joined.append(phoneme)
    joined = [replace(p, end=min(p.end, seconds)) for p in joined if p.end > p.start]
    return Transcript(to_end(joined or [TimedPhoneme(PAUSE, 0.0, seconds)], seconds))


@dataclass(frozen=True)
class _Said:
    """A word, and the ends of its phonemes in seconds."""

    word: Word
    start: float
    ends: tuple[float, ...]

    @property
    def end(self) -> float:
        return self.ends[-1]

    def moved(self, seconds: float) -> _Said:
        return _Said(self.word, self.start + seconds, tuple(end + seconds for end in self.ends))

    def between(self, start: float, end: float) -> _Said:
        """Stretched to begin and end there."""
        share = (end - start) / (self.end - self.start)
        return _Said(self.word, start, tuple(start + share * (e - self.start) for e in self.ends))


def _readings(text: str) -> list[Word]:
    """The words of a text, however long, as the app reads them. Raises FilmError."""
    words: list[Word] = []
    # Sentence by sentence, and by parts of long ones: what the app takes at once is limited.
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        for part in textwrap.wrap(sentence, MAX_CHARACTERS):
            try:
                words += read(part, "en").words
            except ValueError:
                continue  # nothing in it can be said
    if not words:
        raise FilmError("Its transcript has no words that can be said in English.")
    return words


def _exact(sound: np.ndarray, sayings: Sequence[Saying]) -> list[_Said]:
    """Words whose times are given: the aligner tells where the phonemes lie in them."""
    readings = [[replace(word, sign="") for word in _readings(s.text)] for s in sayings]
    words = [word for reading in readings for word in reading]
    found = _find(sound, words)
    # Where it finds nothing all phonemes of a word are as long as the others.
    evenly = [_Said(w, 0.0, tuple(range(1, len(w.phonemes) + 1))) for w in words]  # type: ignore[arg-type]
    rest, timed = iter(found or evenly), []
    for saying, reading in zip(sayings, readings, strict=True):
        parts = list(itertools.islice(rest, len(reading)))
        if found is None:
            parts = [part.moved(i * 10.0).between(i, i + 1) for i, part in enumerate(parts)]
        assert saying.start is not None and saying.end is not None
        begin, end = parts[0].start, parts[-1].end
        scale = (saying.end - saying.start) / (end - begin)
        timed += [
            part.between(
                saying.start + scale * (part.start - begin),
                saying.start + scale * (part.end - begin),
            )
            for part in parts
        ]
    lengths = [(said.end - said.start) / len(said.ends) for said in timed]
    if np.median(lengths) < SHORTEST_PHONEME:
        raise FilmError("The times of its transcript are too short for its words.")
    last = timed[-1]
    return [*timed[:-1], replace(last, word=replace(last.word, sign="."))]


def _find(sound: np.ndarray, words: Sequence[Word]) -> list[_Said] | None:
    """Where these words are said in float mono 16 kHz [N]; None if they are not."""
    decoder = open_decoder(lm=None, bestpath=False, beam=1e-80, pbeam=1e-80, wbeam=1e-60)
    for index, word in enumerate(words):
        symbols = " ".join(_ALIGNED[plain(phoneme)] for phoneme in word.phonemes)
        decoder.add_word(f"word{index}", symbols, index == len(words) - 1)
    decoder.set_align_text(" ".join(f"word{index}" for index in range(len(words))))
    if not segments(decoder, sound):
        return None
    # The second time it finds the phonemes of these words; asked for its hypothesis then, it crashes.
    decoder.set_alignment()
    listen_to(decoder, sound)
    # Read at once: its entries do not outlive the step of the loop.
    said = [
        (entry.start / 100, tuple((phone.start + phone.duration) / 100 for phone in entry))
        for entry in decoder.get_alignment()
        if entry.name.startswith("word")
    ]
    counts = [len(word.phonemes) for word in words]
    if [len(ends) for _, ends in said] != counts:
        return None
    found = [_Said(word, *times) for word, times in zip(words, said, strict=True)]
    lengths = [b - a for s in found for a, b in itertools.pairwise((s.start, *s.ends))]
    hurried = sum(length < SHORTEST_PHONEME for length in lengths) / len(lengths)
    return None if hurried > HURRIED else found


def _joined(
    timed: Sequence[_Said], seconds: float
) -> tuple[tuple[TimedPhoneme, ...], tuple[TimedWord, ...]]:
    """Words in a row as phonemes with pauses between them, from 0 s to the end."""
    phonemes = [TimedPhoneme(PAUSE, 0.0, timed[0].start if timed else seconds)]
    words = []
    sign = ""
    for said in timed:
        before = phonemes[-1]
        if said.start - before.end >= SHORTEST_GAP and not is_pause(before.phoneme):
            phonemes.append(TimedPhoneme(PAUSE + sign, before.end, said.start))
        else:
            phonemes[-1] = replace(before, end=max(said.start, before.start))
        clock = said.start
        for phoneme, end in zip(said.word.phonemes, said.ends, strict=True):
            phonemes.append(TimedPhoneme(phoneme, clock, end))
            clock = end
        words.append(TimedWord(said.word.text, said.start, said.end))
        sign = said.word.sign
    if phonemes[-1].end < seconds and not is_pause(phonemes[-1].phoneme):
        phonemes.append(TimedPhoneme(PAUSE + sign, phonemes[-1].end, seconds))
    kept = [replace(p, end=min(p.end, seconds)) for p in phonemes if p.start < seconds]
    said = (replace(w, end=min(w.end, seconds)) for w in words if w.start < seconds)
    return tuple(p for p in kept if p.end > p.start), tuple(said)
