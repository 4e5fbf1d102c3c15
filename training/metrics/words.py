"""Are the words understood? pocketsphinx as judge, word error rate as measure."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mutual_forcing.config import SAMPLE_RATE


def transcribe(audio: np.ndarray) -> str:
    """What pocketsphinx (English model of its wheel) hears in float mono 16 kHz [N]."""
    decoder = _decoder()
    pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


@functools.lru_cache(maxsize=1)
def _decoder() -> Any:
    from pocketsphinx import Decoder

    return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")


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


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein distance of two sequences."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
