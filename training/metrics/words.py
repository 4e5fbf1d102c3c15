"""Are the words understood? pocketsphinx as judge, word error rate as measure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.types import TimedWord

_RATE = 100
"""Frames a second of pocketsphinx."""


def hear(audio: np.ndarray) -> tuple[TimedWord, ...]:
    """The words that pocketsphinx (English model of its wheel) hears in float mono 16 kHz [N], timed.

    A decoder of its own for each call (0.3 s): one that is used again carries its noise estimate and
    cepstral mean along, and a clip's transcript then depends on the clips before it.
    """
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
    pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return ()
    return tuple(
        # "read(2)" is a pronunciation; "<sil>", "[NOISE]" and "++UH++" are no words.
        TimedWord(s.word.split("(")[0], s.start_frame / _RATE, (s.end_frame + 1) / _RATE)
        for s in decoder.seg()
        if s.word[0] not in "<[+"
    )


def transcribe(audio: np.ndarray) -> str:
    """What pocketsphinx hears in float mono 16 kHz [N]."""
    return " ".join(word.word for word in hear(audio))


def onset_errors(asked: Sequence[TimedWord], heard: Sequence[TimedWord]) -> list[float]:
    """Milliseconds from the asked to the heard onset of every word that is recognised; late is positive."""
    wanted = [(w.start, part) for w in asked for part in normalise(w.word)]
    got = [(w.start, part) for w in heard for part in normalise(w.word)]
    places = aligned([w for _, w in wanted], [w for _, w in got])
    return [
        1000 * (got[place][0] - start)
        for (start, _), place in zip(wanted, places, strict=True)
        if place is not None
    ]


def normalise(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Substitutions, insertions and deletions per reference word.

    Raises ValueError for a reference without words.
    """
    wanted, heard = normalise(reference), normalise(hypothesis)
    if not wanted:
        raise ValueError("The reference has no words.")
    return edit_distance(wanted, heard) / len(wanted)


def recognised(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Which words of `reference` the hypothesis has in their place, by one best alignment."""
    return [place is not None for place in aligned(reference, hypothesis)]


def aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int | None]:
    """The place in `hypothesis` of each word of `reference` that is recognised, by one best alignment."""
    i, j = len(reference), len(hypothesis)
    costs = [[*range(j + 1)]]
    for a, word in enumerate(reference, 1):
        row = [a]
        for b, other in enumerate(hypothesis, 1):
            above = costs[-1]
            row.append(min(above[b] + 1, row[-1] + 1, above[b - 1] + (word != other)))
        costs.append(row)
    found: list[int | None] = [None] * i
    while i and j:
        equal = reference[i - 1] == hypothesis[j - 1]
        if costs[i][j] == costs[i - 1][j - 1] + (not equal):
            i, j = i - 1, j - 1
            found[i] = j if equal else None
        elif costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return found


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein distance of two sequences."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
