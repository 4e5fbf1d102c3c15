"""English text to phonemes with gruut (MIT), at training and run time alike."""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

PAUSE = "_"
PHONEMES = (
    PAUSE,
    *("ɑ", "æ", "ɛ", "i", "ɪ", "ɔ", "ʊ", "ʌ", "u", "ə", "ɚ", "eɪ", "aɪ", "oʊ", "ɔɪ", "aʊ"),
    *("p", "b", "t", "d", "k", "ɡ", "t͡ʃ", "d͡ʒ", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h"),
    *("l", "m", "n", "ŋ", "ɹ", "w", "j"),
)
"""gruut's en-us inventory without stress marks, the pause first."""
ARPABET = {
    **{"aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ay": "aɪ", "b": "b", "ch": "t͡ʃ"},
    **{"d": "d", "dh": "ð", "eh": "ɛ", "er": "ɚ", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h"},
    **{"ih": "ɪ", "iy": "i", "jh": "d͡ʒ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ"},
    **{"ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ"},
    **{"uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ"},
}
"""What speech tools call them."""
MAX_CHARACTERS = 2000
PauseKind = Literal["none", "comma", "sentence"]
_SIGNS = str.maketrans(
    {
        **{"’": "'", "‘": "'", "“": '"', "”": '"', "–": ", ", "—": ", ", "…": ". "},
        **{"½": " one half ", "¼": " one quarter ", "¾": " three quarters ", "#": " number "},
        **{"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l"},
    }
)
_SPELLINGS = (
    (r"(?<![\d/])1/2(?![\d/])", " one half "),
    (r"(?<![\d/])1/4(?![\d/])", " one quarter "),
    (r"(?<![\d/])3/4(?![\d/])", " three quarters "),
    (r"(?<![\d/])(\d+)/(\d+)(?![\d/])", r"\1 \2"),  # 24/7; dates of three numbers stay
    (r"(?<!\d)/|/(?!\d)", " "),
    (r"(?<=\w)@(?=\w)", " at "),
    (r"\+", " plus "),
    (r"(?<=\s)&(?=\s)|(?<=\w)&(?=\w)", " and "),
    (r"(?<=[a-z][.!?])(?=[A-Z])", " "),  # "Hello.Bye"
    (r"(?<=[^\s.,;:!?])[^\S\n]*\n\s*\n", ".\n"),  # a paragraph without a full stop
    (r"[^A-Za-z0-9\s.,;:!?'\"$€£%\-/]", " "),
)
"""Patterns and what is read instead, in this order; the last drops what cannot be spoken."""


@dataclass(frozen=True)
class Word:
    """A spoken word: its phonemes, the pause after it, and the phonemes with stress marks."""

    text: str
    phonemes: tuple[str, ...]
    pause: PauseKind = "none"
    stressed: tuple[str, ...] = ()


def phonemize(text: str) -> list[Word]:
    """Return the words of English `text`, numbers and abbreviations spelt out.

    Symbols that cannot be spoken are skipped. Raises ValueError for empty text, text without
    anything speakable, and more than 2,000 characters.
    """
    if not text.strip():
        raise ValueError("The text is empty: type what the character should say.")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The text is longer than {MAX_CHARACTERS} characters; shorten it.")
    words: list[Word] = []
    for token in _tokens(_speakable(text)):
        phonemes = token.phonemes or ()
        if token.is_break:
            if words:
                words[-1] = _with_pause(words[-1], "sentence" if token.is_major_break else "comma")
            continue
        stressed = tuple(p for p in phonemes if _plain(p) in PHONEMES)
        if stressed:
            words.append(Word(token.text, tuple(map(_plain, stressed)), "none", stressed))
    if not words:
        raise ValueError("The text has nothing that can be spoken in English.")
    words[-1] = _with_pause(words[-1], "sentence")
    return words


def _speakable(text: str) -> str:
    """Letters, numbers and signs that gruut reads. It knows no accents, ligatures and the like."""
    text = unicodedata.normalize("NFKD", text.translate(_SIGNS))
    text = "".join(sign for sign in text if not unicodedata.combining(sign))
    for pattern, spelling in _SPELLINGS:
        text = re.sub(pattern, spelling, text)
    return text


def _plain(phoneme: str) -> str:
    return phoneme.replace("ˈ", "").replace("ˌ", "").replace("ː", "")


def _with_pause(word: Word, pause: PauseKind) -> Word:
    return Word(word.text, word.phonemes, pause, word.stressed)


def _tokens(text: str) -> Iterable[Any]:
    for sentence in _gruut().sentences(text, lang="en-us"):
        yield from sentence


@functools.lru_cache(maxsize=1)
def _gruut() -> Any:
    # Imported at first use: the lexicon takes half a second to open.
    import gruut

    logging.getLogger("gruut").setLevel(logging.ERROR)
    return gruut
