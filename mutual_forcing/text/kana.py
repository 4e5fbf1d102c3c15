"""Japanese to phonemes: haqumei's readings (Apache-2.0, Open JTalk's dictionary) in misaki's signs."""

from __future__ import annotations

import functools
import re
import threading
from typing import Any, NamedTuple

_LOCK = threading.Lock()
_VOWELS = {"ア": "a", "イ": "i", "ウ": "ɯ", "エ": "e", "オ": "o"}
_ROWS = {
    **{"カ": ("k", "カキクケコ"), "ガ": ("ɡ", "ガギグゲゴ"), "サ": ("s", "サシスセソ")},
    **{"ザ": ("ʣ", "ザジズゼゾ"), "タ": ("t", "タチツテト"), "ダ": ("d", "ダヂヅデド")},
    **{"ナ": ("n", "ナニヌネノ"), "ハ": ("h", "ハヒフヘホ"), "バ": ("b", "バビブベボ")},
    **{"パ": ("p", "パピプペポ"), "マ": ("m", "マミムメモ"), "ラ": ("ɾ", "ラリルレロ")},
}
_IRREGULAR = {
    **{
        "キ": "kʲ i",
        "ギ": "ɡʲ i",
        "ニ": "ɲ i",
        "ヒ": "ç i",
        "ビ": "bʲ i",
        "ピ": "pʲ i",
        "ミ": "mʲ i",
    },
    **{"リ": "ɾʲ i", "シ": "ɕ i", "ジ": "ʥ i", "チ": "ʨ i", "ヂ": "ʥ i", "ス": "s ɨ", "ズ": "z ɨ"},
    **{"ヅ": "z ɨ", "ツ": "ʦ ɨ", "フ": "ɸ ɯ", "ヤ": "j a", "ユ": "j ɯ", "ヨ": "j o", "ワ": "β a"},
    **{"ヲ": "o", "ヰ": "i", "ヱ": "e", "ヴ": "v ɯ", "ァ": "a", "ィ": "i", "ゥ": "ɯ", "ェ": "e"},
    **{"ォ": "o", "ャ": "j a", "ュ": "j ɯ", "ョ": "j o", "ヮ": "β a", "ヵ": "k a", "ヶ": "k e"},
}
_PALATAL = {
    **{"キ": "kʲ", "ギ": "ɡʲ", "シ": "ɕ", "ジ": "ʥ", "チ": "ʨ", "ヂ": "ʥ", "ニ": "ɲ", "ヒ": "ç"},
    **{
        "ビ": "bʲ",
        "ピ": "pʲ",
        "ミ": "mʲ",
        "リ": "ɾʲ",
        "テ": "tʲ",
        "デ": "dʲ",
        "フ": "ɸʲ",
        "ヴ": "vʲ",
    },
}
"""Before ャ ュ ョ, and before ェ."""
_BEFORE_SMALL = {
    "ウ": "β",
    "ク": "k β",
    "グ": "ɡ β",
    "ツ": "ʦ",
    "フ": "ɸ",
    "ヴ": "v",
    "ト": "t",
    "ド": "d",
}
"""Before ァ ィ ゥ ェ ォ."""
_SMALL_VOWELS = {"ァ": "a", "ィ": "i", "ゥ": "ɯ", "ェ": "e", "ォ": "o"}


def _moras() -> dict[str, tuple[str, ...]]:
    table = {kana: (vowel,) for kana, vowel in _VOWELS.items()}
    for consonant, row in _ROWS.values():
        table |= {kana: (consonant, v) for kana, v in zip(row, _VOWELS.values(), strict=True)}
    table |= {kana: tuple(signs.split()) for kana, signs in _IRREGULAR.items()}
    for kana, sign in _PALATAL.items():
        table |= {kana + small: (sign, v) for small, v in zip("ャュョェ", "aɨoe", strict=True)}
    for kana, signs in _BEFORE_SMALL.items():
        table |= {kana + small: (*signs.split(), v) for small, v in _SMALL_VOWELS.items()}
    table |= {"フィ": ("ɸʲ", "i"), "ヴィ": ("vʲ", "i"), "ティ": ("tʲ", "i"), "ディ": ("dʲ", "i")}
    return table | {"イェ": ("j", "e"), "テェ": ("t", "e"), "デェ": ("d", "e")}


_MORAS = _moras()
_NASALS = (("mpb", "m"), ("kɡ", "ŋ"), ("ɲʨʥ", "ɲ"), ("ntdɾzʣʦ", "n"))
"""What ン becomes before a consonant; ɴ elsewhere."""
_TO_ENGLISH = {
    **{"a": "ɑ", "e": "ɛ", "o": "oʊ", "ɯ": "u", "ɨ": "u", "kʲ": "k j", "ɡʲ": "ɡ j", "tʲ": "t"},
    **{
        "dʲ": "d",
        "bʲ": "b j",
        "pʲ": "p j",
        "mʲ": "m j",
        "vʲ": "v",
        "ɾ": "ɹ",
        "ɾʲ": "ɹ j",
        "ɲ": "n j",
    },
    **{"ç": "h j", "ɸ": "f", "ɸʲ": "f", "ɕ": "ʃ", "ʨ": "t͡ʃ", "ʥ": "d͡ʒ", "ʦ": "t s", "ʣ": "z"},
    **{"β": "w", "ɴ": "n", "ʔ": ""},
}


class KanaReading(NamedTuple):
    """A Japanese word: where it stands in the text that was read, its phonemes, () for a mark, and whether
    the dictionary has it.
    """

    begin: int
    end: int
    phonemes: tuple[str, ...]
    known: bool


def read(text: str) -> list[KanaReading]:
    """The words of a Japanese text in NFKC, read in their context; digits are words by themselves."""
    with _LOCK:
        words = _haqumei().g2p_mapping_detailed(text)
    readings: list[KanaReading] = []
    for word in words:
        begin, end = word.char_span
        phonemes = () if word.is_ignored else mora_phonemes(re.sub("[’']", "", word.pron))
        if (
            begin == end and readings
        ):  # the place of a digit (ten in 24) belongs to the digit before it
            last = readings.pop()
            begin, phonemes = last.begin, last.phonemes + phonemes
        readings.append(KanaReading(begin, end, phonemes, not word.is_unknown))
    return readings


def mora_phonemes(katakana: str) -> tuple[str, ...]:
    """The phonemes of a pronunciation in katakana, in which ー is a long vowel; other signs have none."""
    moras = re.findall(f"{'|'.join(sorted(_MORAS, key=len, reverse=True))}|ン|ッ|ー", katakana)
    phonemes: list[str] = []
    for index, mora in enumerate(moras):
        following = _MORAS.get(moras[index + 1], ("",)) if index + 1 < len(moras) else ("",)
        if mora == "ン":
            nasal = (sign for signs, sign in _NASALS if following[0] and following[0][0] in signs)
            phonemes.append(next(nasal, "ɴ"))
        elif mora == "ッ":
            phonemes.append("ʔ")
        elif mora != "ー":
            phonemes.extend(_MORAS[mora])
        elif phonemes and phonemes[-1] in "aiɯeoɨ":
            phonemes[-1] += "ː"
    return tuple(phonemes)


def in_english(phonemes: tuple[str, ...]) -> tuple[str, ...]:
    """How an English voice says them."""
    said: list[str] = []
    for phoneme in phonemes:
        short = phoneme.replace("ː", "")
        signs = _TO_ENGLISH.get(short, short).split()
        if said and said[-1] == "j" and signs == ["i"]:
            said.pop()  # ki, not kyi
        said.extend(signs)
    if said and said[-1] == "ɛ":
        said[-1] = "eɪ"
    return tuple(said)


@functools.lru_cache(maxsize=1)
def _haqumei() -> Any:
    # Imported at first use: the dictionary takes a second to unpack, and 120 MB.
    import haqumei

    return haqumei.Haqumei(ignore_kaomoji=False)
