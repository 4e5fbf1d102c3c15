"""Text as people write it to pieces that can be said, in the language that it is written in."""

from __future__ import annotations

import re

from . import english, japanese
from .english_tables import words
from .inventory import LANGUAGE_CHOICES, NEEDED, Language, LanguageChoice
from .pieces import HAN, KANA, Piece, fold, scan

_FUNCTION_WORDS = words(
    """a an the and or but if of to in on at by for with from as is are was were be am do does did have has
    had can will would i you he she it we they my your his her our their this that these those what who
    how why when where not no yes"""
)
"""English words that nobody puts into a Japanese sentence."""
_ADDRESS = re.compile(r"<[^<>]*>|\S*(?:://|www\.|@)[!-~]*", re.ASCII)
_HIRAGANA = re.compile("[\u3041-\u3096]")
_JAPANESE = re.compile(f"[{KANA}{HAN}]")


def normalise(text: str, language: Language) -> list[Piece]:
    """Cut a text into pieces; their sources, joined, are the text, and none that matters is silent."""
    rules = english.rules() if language == "en" else japanese.rules()
    return scan(text, rules)


def find_language(text: str, choice: LanguageChoice = "auto") -> Language:
    """The language of a text, unless it is chosen.

    Japanese for mostly Japanese letters: words and names of one language in the other do not count for much,
    the little words that hold a sentence together count most. Raises ValueError for an unknown choice.
    """
    if choice != "auto":
        if choice not in NEEDED:
            raise ValueError(f"The language must be one of {', '.join(LANGUAGE_CHOICES)}.")
        return choice
    folded, _ = fold(text)
    letters = len(_JAPANESE.findall(folded))
    if not letters:
        return "en"
    latin = re.findall("[A-Za-z]+", _ADDRESS.sub(" ", folded))
    # Shorter ones are units, initials and numerals.
    long, little = sum(len(w) > 2 for w in latin), sum(_is_function_word(w) for w in latin)
    english_weight = 2 * long + 4 * little
    hiragana = len(_HIRAGANA.findall(folded))
    # Hiragana hold a sentence together, too.
    return "ja" if letters + hiragana >= english_weight + (not hiragana) else "en"


def _is_function_word(word: str) -> bool:
    return word.lower() in _FUNCTION_WORDS and not word.isupper()
