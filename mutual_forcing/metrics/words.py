"""Whether speech is understood: pocketsphinx recognises it, and jiwer counts the word errors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from math import log10
from pathlib import Path

import jiwer
import numpy as np

from mutual_forcing.text.recognition import hear, is_silent, open_decoder
from mutual_forcing.types import TimedWord


def recognise(audio: np.ndarray, vocabulary: Sequence[str] = ()) -> tuple[TimedWord, ...]:
    """The words that pocketsphinx (English model of its wheel) hears in float mono [N], timed.

    With a `vocabulary` it chooses among these words alone (a closed grammar), in any order and all equally
    likely; those that its dictionary lacks are never heard. Without, it has its own language model.

    A decoder of its own for each call (0.3 s): one that is used again carries its noise estimate and
    cepstral mean along, and a clip's transcript then depends on the clips before it. Silence has no words:
    a closed grammar would find its shortest one there.
    """
    if is_silent(audio):
        return ()
    with tempfile.TemporaryDirectory() as folder:
        model = _closed(vocabulary, Path(folder)) if vocabulary else {}
        decoder = open_decoder(**model)
    return tuple(
        # "read(2)" is a pronunciation; "<sil>", "[NOISE]" and "++UH++" are no words.
        TimedWord(word.split("(")[0], start, end)
        for word, start, end in hear(decoder, audio)
        if word[0] not in "<[+"
    )


def _closed(vocabulary: Sequence[str], folder: Path) -> dict[str, str]:
    """Files in `folder` that close the grammar, as options of the decoder.

    With a small dictionary of its own the decoder starts in a third of the time.
    """
    known = _dictionary()
    words = [word for word in vocabulary if word in known]
    model, spoken = folder / "words.arpa", folder / "words.dict"
    model.write_text(_equally_likely(words), encoding="utf-8")
    spoken.write_text("\n".join(line for w in words for line in known[w]) + "\n", encoding="utf-8")
    return {"lm": str(model), "dict": str(spoken)}


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, list[str]]:
    """The lines of pocketsphinx's pronouncing dictionary by word: "read" has "read ..." and "read(2) ..."."""
    from pocketsphinx import get_model_path

    lines: dict[str, list[str]] = {}
    text = Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8")
    for line in text.splitlines():
        lines.setdefault(line.split(maxsplit=1)[0].split("(")[0], []).append(line)
    return lines


def _equally_likely(vocabulary: Sequence[str]) -> str:
    """A language model in ARPA format: each of these words, or the end, may come at any time."""
    share = -log10(len(vocabulary) + 1)
    lines = ["-99 <s>", *(f"{share:.4f} {word}" for word in ("</s>", *vocabulary))]
    grams = "\n".join(lines)
    return f"\\data\\\nngram 1={len(lines)}\n\n\\1-grams:\n{grams}\n\n\\end\\\n"


def plain(words: Sequence[TimedWord]) -> list[str]:
    """Timed words as a list of normal ones."""
    return [part for word in words for part in normalise(word.word)]


def transcribe(audio: np.ndarray) -> str:
    """What pocketsphinx hears in float mono [N]."""
    return " ".join(word.word for word in recognise(audio))


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
    """Substitutions, insertions and deletions per word of the reference.

    Raises ValueError for a reference without words.
    """
    wanted, heard = normalise(reference), normalise(hypothesis)
    if not wanted:
        raise ValueError("The reference has no words.")
    return word_errors(wanted, heard) / len(wanted)


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Substitutions, insertions and deletions that lead from `reference` to `hypothesis`, at least."""
    found = _alignment(reference, hypothesis)
    return found.substitutions + found.insertions + found.deletions


def recognised(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """For each word of `reference` whether `hypothesis` has it in its place, by one best alignment."""
    return [place is not None for place in aligned(reference, hypothesis)]


def aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int | None]:
    """For each word of `reference` its place in `hypothesis` by one best alignment, None if it is missing."""
    places: list[int | None] = [None] * len(reference)
    for chunk in _alignment(reference, hypothesis).alignments[0]:
        if chunk.type == "equal":
            span = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            places[chunk.ref_start_idx : chunk.ref_end_idx] = span
    return places


def _alignment(reference: Sequence[str], hypothesis: Sequence[str]) -> jiwer.WordOutput:
    return jiwer.process_words(" ".join(reference), " ".join(hypothesis))
