"""English words to phonemes: gruut's lexicon, tagger and guesser (MIT), used word by word.

gruut's own reading of sentences is not used: it depends on the machine's locale and loses what it cannot
parse.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .inventory import NEEDED, PHONEMES

_LOCK = threading.Lock()
"""Around the database connection and gruut's models."""
_KNOWN = frozenset(PHONEMES[: NEEDED["en"]])
_SIBILANTS = frozenset(("s", "z", "ʃ", "ʒ", "t͡ʃ", "d͡ʒ"))
_VOICELESS = frozenset(("p", "t", "k", "f", "θ"))


def pronounce(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The phonemes, with stress marks, of each word of one sentence.

    A capital letter by itself is its name. A word is letters and apostrophes; what is not in the lexicon is
    guessed.
    """
    with _LOCK:
        tags = _gruut().get_parts_of_speech(list(words))
        return [_word(word, tag) for word, tag in zip(words, tags, strict=True)]


def knows(word: str) -> bool:
    """Whether the lexicon has the word, in whatever case."""
    with _LOCK:
        return bool(_entries(word.lower()))


def unmarked(stressed: str) -> str:
    """A phoneme as the lexicon writes it, without marks of stress and length."""
    return stressed.replace("ˈ", "").replace("ˌ", "").replace("ː", "")


def phoneme(stressed: str) -> str:
    """The inventory's phoneme: with its mark if the word's first stress lies on it."""
    marked = "ˈ" + unmarked(stressed)
    return marked if stressed[0] == "ˈ" and marked in PHONEMES else unmarked(stressed)


def _word(word: str, tag: str) -> tuple[str, ...]:
    letter = len(word) == 1 and word.isupper()
    found = _lookup(word.lower(), "gruut:letter" if letter else f"gruut:{tag}")
    if found is None and word[-2:].lower() == "'s":
        base = _word(word[:-2], tag)
        return (*base, *_ending(unmarked(base[-1]))) if base else ()
    if found is None:
        found = tuple(_gruut().guess_phonemes(word, None) or ())
    kept = tuple(phoneme for phoneme in found if unmarked(phoneme) in _KNOWN)
    if kept or len(word) == 1:
        return kept
    return tuple(phoneme for sign in word if sign.isalpha() for phoneme in _word(sign.upper(), ""))


def _lookup(word: str, role: str) -> tuple[str, ...] | None:
    """The pronunciation in a role, else that of any, else the first."""
    entries = _entries(word) or _entries(word.replace("'", ""))
    if not entries:
        return None
    return tuple(entries.get(role, entries.get("", next(iter(entries.values())))).split())


@functools.lru_cache(maxsize=10_000)
def _entries(word: str) -> dict[str, str]:
    """Pronunciations by role, the most common one of each, in the lexicon's order."""
    query = "SELECT role, phonemes FROM words WHERE word = ? ORDER BY pron_order"
    entries: dict[str, str] = {}
    for role, phonemes in _database().execute(query, (word,)):
        entries.setdefault(role, phonemes)
    return entries


def _ending(last: str) -> tuple[str, ...]:
    """How 's sounds after a phoneme."""
    if last in _SIBILANTS:
        return ("ɪ", "z")
    return ("s",) if last in _VOICELESS else ("z",)


@functools.lru_cache(maxsize=1)
def _database() -> sqlite3.Connection:
    """The lexicon in memory with an index; gruut's own has none and reads the whole file for every word."""
    import gruut_lang_en

    path = Path(gruut_lang_en.__file__).with_name("lexicon.db")
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("ATTACH ? AS file", (str(path),))
    database.execute(
        "CREATE TABLE words AS SELECT word, role, phonemes, pron_order FROM file.word_phonemes"
    )
    database.commit()
    database.execute("DETACH file")
    database.execute("CREATE INDEX by_word ON words (word)")
    return database


@functools.lru_cache(maxsize=1)
def _gruut() -> Any:
    # Imported at first use: it takes half a second.
    from gruut.lang import get_settings

    logging.getLogger("gruut").setLevel(logging.ERROR)
    return get_settings("en-us", load_phoneme_lexicon=False)
