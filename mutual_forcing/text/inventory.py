"""The phonemes that models know, of all languages in one list.

A model holds one embedding for each, in this order, and knows the first so many of them (`phonemes` in its
configuration). So the list only ever grows at its end, a language at a time.
"""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "ja"]
LanguageChoice = Literal["auto", "en", "ja"]
LANGUAGE_CHOICES: tuple[LanguageChoice, ...] = ("auto", "en", "ja")
PAUSE = "_"
_ENGLISH = (
    PAUSE,
    *("ɑ", "æ", "ɛ", "i", "ɪ", "ɔ", "ʊ", "ʌ", "u", "ə", "ɚ", "eɪ", "aɪ", "oʊ", "ɔɪ", "aʊ"),
    *("p", "b", "t", "d", "k", "ɡ", "t͡ʃ", "d͡ʒ", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h"),
    *("l", "m", "n", "ŋ", "ɹ", "w", "j"),
)
"""gruut's en-us inventory without stress marks, the pause first."""
_JAPANESE = (
    *("a", "e", "o", "ɯ", "ɨ", "aː", "iː", "ɯː", "eː", "oː", "ɨː"),
    *("kʲ", "ɡʲ", "tʲ", "dʲ", "bʲ", "pʲ", "mʲ", "vʲ", "ɾ", "ɾʲ", "ɲ", "ç", "ɸ", "ɸʲ"),
    *("ɕ", "ʨ", "ʥ", "ʦ", "ʣ", "β", "ɴ", "ʔ"),
)
"""What Japanese has besides, in the signs of misaki, which Kokoro's voices read; ʔ is the first half of a
doubled consonant.
"""
_VOWELS = ("ɑ", "æ", "ɛ", "i", "ɪ", "ɔ", "ʊ", "ʌ", "u", "ɚ", "eɪ", "aɪ", "oʊ", "ɔɪ", "aʊ")
_PROSODY = (*(f"ˈ{vowel}" for vowel in _VOWELS), *(f"{PAUSE}{sign}" for sign in ",.?!"))
"""English vowels with the word's stress, and pauses with the sign that stands there."""
PHONEMES = (*_ENGLISH, *_JAPANESE, *_PROSODY)
NEEDED: dict[Language, int] = {"en": len(_ENGLISH), "ja": len(_ENGLISH) + len(_JAPANESE)}
"""How many phonemes a model must know to speak a language."""
NAMES: dict[Language, str] = {"en": "English", "ja": "Japanese"}
ARPABET = {
    **{"aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ay": "aɪ", "b": "b", "ch": "t͡ʃ"},
    **{"d": "d", "dh": "ð", "eh": "ɛ", "er": "ɚ", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h"},
    **{"ih": "ɪ", "iy": "i", "jh": "d͡ʒ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ"},
    **{"ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ"},
    **{"uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ"},
}
"""What speech tools call the English ones."""
_IDS = {phoneme: index + 1 for index, phoneme in enumerate(PHONEMES)}


def phoneme_id(phoneme: str, known: int = len(PHONEMES)) -> int:
    """Id of a phoneme (1 and up) for a model that knows the first `known`; see `as_known`. Raises ValueError
    for one outside the inventory.
    """
    phoneme = as_known(phoneme, known)
    if phoneme not in _IDS:
        raise ValueError(
            f"Unknown phoneme {phoneme!r}; use the symbols of mutual_forcing.text.inventory.PHONEMES."
        )
    return _IDS[phoneme]


def plain(phoneme: str) -> str:
    """A phoneme without its stress, a pause without its sign."""
    return PAUSE if is_pause(phoneme) else phoneme.removeprefix("ˈ")


def is_pause(phoneme: str) -> bool:
    """Whether nothing is said."""
    return phoneme[:1] == PAUSE


def as_known(phoneme: str, known: int) -> str:
    """A phoneme as a model reads it which knows the first `known`: with its prosody, or without."""
    return phoneme if _IDS.get(phoneme, 0) <= known else plain(phoneme)


def spoken_languages(known: int) -> tuple[Language, ...]:
    """The languages that a model can speak which knows the first `known` phonemes."""
    return tuple(language for language, needed in NEEDED.items() if known >= needed)


def check_language(language: Language, known: int) -> None:
    """Raise ValueError, in one sentence, if a model with `known` phonemes cannot speak the language."""
    if known < NEEDED[language]:
        spoken = " and ".join(NAMES[name] for name in spoken_languages(known)) or "no language"
        raise ValueError(
            f"The text is {NAMES[language]}, and this checkpoint's voices speak {spoken} only: write it "
            f"in {spoken}, or load a checkpoint that speaks {NAMES[language]}."
        )
