"""Text to words with phonemes, at training and run time alike, and the preview of what will be said."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from . import kana, lexicon
from .inventory import NAMES, Language, LanguageChoice
from .normalise import find_language, normalise
from .pieces import HAN, JAPANESE_RUN, Piece, fold, shown

MAX_CHARACTERS = 2000
Sign = Literal["", ",", ".", "!", "?"]
_TOKEN = re.compile(rf"[A-Za-z]+(?:'[A-Za-z]+)*|[.,;:!?]|{JAPANESE_RUN.pattern}")
_STRENGTH: tuple[Sign, ...] = ("", ",", ".", "!", "?")
_SIGNS: dict[str, Sign] = {
    **dict.fromkeys(",;:、", ","), **dict.fromkeys(".。", "."), **dict.fromkeys("!！", "!"),
    **dict.fromkeys("?？", "?"),
}  # fmt: skip


@dataclass(frozen=True)
class Word:
    """A spoken word: its phonemes (see inventory.PHONEMES), the sign after it, at which there is a pause,
    and the phonemes as the lexicon writes them, all stress marks among them.
    """

    text: str
    phonemes: tuple[str, ...]
    sign: Sign = ""
    stressed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How a text will be said.

    text: it with numbers, abbreviations and signs as words. words: these with their phonemes.
    unspoken: the parts of it that cannot be said (emoji, other scripts, markup), each once, as typed; what
    is not printable by its code point.
    changes: the parts that are said in other words than typed, each once: (as typed, as said).
    """

    language: Language
    text: str
    words: tuple[Word, ...]
    unspoken: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()


def phonemize(text: str, language: LanguageChoice = "auto") -> list[Word]:
    """The words of a text with their phonemes; see `read`."""
    return list(read(text, language).words)


@functools.lru_cache(maxsize=16)  # A page asks for the text's length, its preview and its film.
def read(text: str, language: LanguageChoice = "auto") -> Reading:
    """Normalise a text in English or Japanese and find its words' phonemes.

    Words of the other language are said with the sounds of the text's own. Raises ValueError, in one
    sentence, for empty text, text in which nothing can be said, and more than 2,000 characters.
    """
    if not text.strip():
        raise ValueError("The text is empty: type what the character should say.")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The text is longer than {MAX_CHARACTERS} characters; shorten it.")
    found = find_language(text, language)
    pieces = normalise(text, found)
    words, lost = _english(pieces) if found == "en" else _japanese(pieces)
    named = [lost.get(i, shown(p) if p.unspoken else "") for i, p in enumerate(pieces)]
    missing = tuple(dict.fromkeys(filter(None, named)))
    if not words:
        listed = f" ({', '.join(missing)[:60]})" if missing else ""
        raise ValueError(f"The text has nothing that can be spoken in {NAMES[found]}{listed}.")
    words[-1] = replace(words[-1], sign=_stronger(words[-1].sign, "."))
    said = [piece for i, piece in enumerate(pieces) if i not in lost]
    spoken = _joined([piece.spoken for piece in said], found)
    return Reading(found, spoken, tuple(words), missing, _changes(said))


def warm_up(language: Language) -> None:
    """Load what a language needs, so that the first text does not wait for it."""
    read("One." if language == "en" else "一。", language)


class _Token(NamedTuple):
    piece: int
    text: str


def _english(pieces: Sequence[Piece]) -> tuple[list[Word], dict[int, str]]:
    """The words, and what could not be pronounced of which pieces."""
    words: list[Word] = []
    lost: dict[int, str] = {}
    for sentence in _sentences(pieces):
        latin = [
            token.text for token in sentence if token.text[0].isascii() and token.text not in _SIGNS
        ]
        stressed = iter(lexicon.pronounce(latin))
        for token in sentence:
            if token.text in _SIGNS:
                if words:
                    sign = _stronger(words[-1].sign, _SIGNS[token.text])
                    words[-1] = replace(words[-1], sign=sign)
                continue
            said = next(stressed) if token.text[0].isascii() else _foreign(token.text)
            if said:
                words.append(Word(token.text, tuple(map(lexicon.phoneme, said)), "", said))
            else:
                lost[token.piece] = token.text
    return words, lost


def _sentences(pieces: Sequence[Piece]) -> list[list[_Token]]:
    """The tokens of each sentence, that which ends it included."""
    sentences: list[list[_Token]] = [[]]
    for index, piece in enumerate(pieces):
        for text in _TOKEN.findall(piece.spoken):
            sentences[-1].append(_Token(index, text))
            if _SIGNS.get(text) in (".", "!", "?"):
                sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _foreign(run: str) -> tuple[str, ...]:
    """Japanese letters in an English sentence; nothing for Han that are not Japanese words."""
    readings = kana.read(run)
    if any(not r.known and re.search(f"[{HAN}]", run[r.begin : r.end]) for r in readings):
        return ()
    return kana.in_english(tuple(p for reading in readings for p in reading.phonemes))


def _japanese(pieces: Sequence[Piece]) -> tuple[list[Word], dict[int, str]]:
    """The words, and what could not be pronounced of which pieces."""
    text = "".join(piece.spoken for piece in pieces)
    owner = [index for index, piece in enumerate(pieces) for _ in piece.spoken]
    words: list[Word] = []
    heard = [unicodedata.category(sign)[0] in "PZ" for sign in text]
    for reading in kana.read(text):
        surface = text[reading.begin : reading.end]
        if reading.phonemes:
            heard[reading.begin : reading.end] = [True] * len(surface)
            words.append(Word(surface.strip(), reading.phonemes, "", reading.phonemes))
        elif words:
            for mark in filter(_SIGNS.__contains__, surface):
                words[-1] = replace(words[-1], sign=_stronger(words[-1].sign, _SIGNS[mark]))
    lost: dict[int, str] = {}
    for index, sign, said in zip(owner, text, heard, strict=True):
        if not said:
            lost[index] = lost.get(index, "") + sign
    return words, lost


def _changes(pieces: Sequence[Piece]) -> tuple[tuple[str, str], ...]:
    """What is said in other words than typed; capitals, accents and punctuation make no difference."""
    changed = (
        (shown(piece), piece.spoken.strip())
        for piece in pieces
        if re.search(r"\w", piece.spoken) and _words(piece.source) != _words(piece.spoken)
    )
    return tuple(dict.fromkeys(changed))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", fold(text)[0].casefold())


def _stronger(first: Sign, second: Sign) -> Sign:
    return _STRENGTH[max(_STRENGTH.index(first), _STRENGTH.index(second))]


def _joined(spoken: Sequence[str], language: Language) -> str:
    text = re.sub(r"\s+", " ", " ".join(spoken) if language == "en" else "".join(spoken))
    return re.sub(r"^[\s.,;:]+|\s+(?=[.,;:!?。、！？])|\s+$", "", text)
