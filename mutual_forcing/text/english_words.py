"""English words that are not said as they are spelt: abbreviations, initials, capitals, Roman numerals."""

from __future__ import annotations

import re

from . import english_tables as tables
from .english_numbers import MONTH, NUMBER, cardinal, digits, number, ordinal, sentence_end
from .lexicon import knows
from .pieces import GREEK_LETTER, Rule, alternatives, rule

_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")


def spell(text: str) -> str:
    """Letters by their names, digits by theirs."""
    return " ".join(sign.upper() if sign.isalpha() else digits(sign) for sign in text)


def is_sayable(word: str) -> bool:
    """Whether a word, in lower case, has a vowel."""
    return bool(re.search(r"[aeiouy]", word))


def in_words(text: str) -> str:
    """The words of a name such as ThrowbackThursday2024 or snake_case."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)
    return " ".join(
        number(p) if p.isdecimal() else capitals(p) if p.isupper() else p for p in parts
    )


def _plain_number(match: re.Match[str]) -> str:
    return f" {number(match[0])} "


def _mixed_word(match: re.Match[str]) -> str:
    """Letters and digits together: H2O, 4K, MP3, x86."""
    said = []
    for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", match[0]):
        if part.isdecimal():
            said.append(digits(part) if part[0] == "0" or len(part) > 4 else number(part))
        elif len(part) < 3 or (part.isupper() and len(part) == 3):
            said.append(spell(part))
        else:
            said.append(capitals(part) if part.isupper() else part)
    return f" {' '.join(said)} "


def _weekday(match: re.Match[str]) -> str:
    day = tables.DAYS[(match["day"] or match["day_"]).lower()]
    return f" {day} {sentence_end(match, match[0])}"


def _from_to(match: re.Match[str]) -> str:
    names = tables.DAYS | tables.MONTHS
    return f" {names[match['a'].lower()]} to {names[match['b'].lower()]} "


def _saint_or_street(match: re.Match[str]) -> str:
    said = "saint" if _is_before_name(match) else "street"
    return f" {_like(match[0], said)} {'' if said == 'saint' else sentence_end(match, match[0])}"


def _doctor_or_drive(match: re.Match[str]) -> str:
    said = "doctor" if _is_before_name(match) else "drive"
    return f" {_like(match[0], said)} {'' if said == 'doctor' else sentence_end(match, match[0])}"


def _is_before_name(match: re.Match[str]) -> bool:
    """Whether St. and Dr. belong to the name after them (Saint Louis), or to that before (Main Street)."""
    named_after = re.match(r"\s+[A-Z]", match.string[match.end() :])
    before = match.string[: match.start()].rstrip(" ")
    street = re.search(r"\b\d+\w*\s+(?:[NSEW]\.?\s+)?(?:[A-Z][\w']*\s+)*[A-Z][\w']*$", before)
    previous = re.search(
        r"(?:^|(?P<end>[.!?:,\n\"(]\s*)|(?P<gap>\s))(?P<word>[A-Z][\w']*)$", before
    )
    if not named_after:
        return not previous and bool(re.match(r"\s+\w", match.string[match.end() :]))
    if street:
        return False
    if previous is None or previous["gap"] is None:  # the beginning
        return True
    return previous["word"].lower() in tables.PLACES_AFTER_SAINT


def _like(source: str, word: str) -> str:
    return word.capitalize() if source[:1].isupper() and len(word) > 1 else word


def _abbreviation(match: re.Match[str]) -> str | None:
    short = match["word"].lower()
    after = match.string[match.end() :]
    if short in tables.BEFORE_NUMBERS:
        if not re.match(r"\s*#?\d", after):
            return None
        return f" {_like(match[0], tables.ABBREVIATIONS[short])} "
    if short in tables.BEFORE_NAMES and not re.match(r"\s+[A-Z]", after):
        return None
    ends = "" if short in tables.TITLES or short == "vs" else sentence_end(match, match[0])
    return f" {_like(match[0], tables.ABBREVIATIONS[short])} {ends}"


def _dotted(match: re.Match[str]) -> str | None:
    letters = match[0].replace(".", "")
    said = tables.INITIALISMS_SAID.get(letters.lower())
    if said is None:
        said = "P H D" if letters.lower() == "phd" else spell(letters)
    if letters.lower() in ("eg", "ie"):
        return f" {said} "
    known = letters.lower() in tables.INITIALISMS or letters.lower() in tables.INITIALISMS_SAID
    initials = not known and match.string[match.end() :].strip()  # of a name
    return f" {said} {'' if initials else sentence_end(match, match[0])}"


def _with(match: re.Match[str]) -> str:
    return {"w/": " with ", "w/o": " without ", "b/c": " because ", "n/a": " not applicable "}[
        match[0].lower()
    ]


def _roman(match: re.Match[str]) -> str | None:
    letters = match["roman"]
    before = re.search(r"([A-Za-z]+)\s+$", match.string[: match.start()])
    previous = before[1].lower() if before else ""
    royal, numbered = previous in tables.ROYAL, previous in tables.NUMBERED
    value = roman_value(letters)
    if not value or (len(letters) == 1 and not (numbered or (royal and letters != "I"))):
        return None
    if len(letters) in (2, 3) and not re.fullmatch("[IVX]+", letters):
        return None
    if letters == "MIX":
        return None
    named = royal and before is not None and before[1][0].isupper()
    return f" the {ordinal(value)} " if named else f" {cardinal(value)} "


def roman_value(letters: str) -> int:
    """The number that Roman numerals in capitals stand for; 0 if they are none."""
    if not letters or not _ROMAN.fullmatch(letters):
        return 0
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    numbers = [values[letter] for letter in letters]
    following = [*numbers[1:], 0]
    return sum(-n if n < after else n for n, after in zip(numbers, following, strict=True))


def _caps_word(match: re.Match[str]) -> str:
    letters, ending = match["caps"], match["ending"] or ""
    beside = match.string[max(match.start() - 1, 0) : match.end() + 1]
    said = spell(letters) if "&" in beside else capitals(letters, _is_shouted(match))
    spelt = said.rpartition(" ")[2].isupper()
    if ending and spelt:
        return f" {said}'s "
    return f" {said}{ending.lower()} "


def capitals(letters: str, shouted: bool = False) -> str:
    """A word in capitals: said as a word, or spelt."""
    word = letters.lower()
    if word in tables.RESPELT:
        return tables.RESPELT[word]
    if word in tables.ACRONYMS:
        return word
    short = word in tables.SHORT_WORDS
    if word in tables.INITIALISMS and not (shouted and short):
        return spell(letters)
    if len(word) <= 3:
        return word if short or (shouted and knows(word)) else spell(letters)
    if knows(word) or (shouted and is_sayable(word)):
        return word
    return word if len(word) > 5 and is_sayable(word) else spell(letters)


def _is_shouted(match: re.Match[str]) -> bool:
    """Whether a neighbouring word is an ordinary one in capitals."""
    before = re.search(r"([A-Z][A-Z']+)[\s,.!?;:-]+$", match.string[: match.start()])
    after = re.match(r"[\s,.!?;:-]+([A-Z][A-Z']+)\b", match.string[match.end() :])
    return any(_is_ordinary(found[1]) for found in (before, after) if found)


def _is_ordinary(capitals: str) -> bool:
    word = capitals.lower()
    if word in tables.INITIALISMS or word in tables.ACRONYMS:
        return False
    return word in tables.SHORT_WORDS or (len(word) > 3 and knows(word))


def _letter_a(match: re.Match[str]) -> str:
    before = re.search(r"([A-Za-z]+)[\s-]+$", match.string[: match.start()])
    lettered = before is not None and before[1].lower() in tables.LETTERED
    article = re.match(r"\s+[\"'(]*\w|-", match.string[match.end() :]) and not lettered
    return " a " if article else " A "


def _word(match: re.Match[str]) -> str:
    word = match[0]
    if word.lower() in tables.RESPELT:
        return f" {tables.RESPELT[word.lower()]} "
    if len(word) > 3 and re.search(r"[a-z][A-Z]", word) and not knows(word):
        return f" {in_words(word)} "
    if len(word) == 1 and word != "a" and word != "I":
        return f" {word.upper()} "
    short, unknown = len(word) < 5 and word.lower() not in tables.SOUNDS, not knows(word)
    if short and unknown and not is_sayable(word.lower()):
        return f" {spell(word)} "
    return f" {word} "


def _contraction(match: re.Match[str]) -> str:
    return f" {match[0].lower()} "


def _month(match: re.Match[str]) -> str | None:
    short = match["month"].lower()
    if not match["month"][0].isupper() or short in ("may", *map(str.lower, tables.MONTH_NAMES)):
        return None
    return f" {tables.MONTHS[short]} {sentence_end(match, match[0])}"


def _loose(match: re.Match[str]) -> str | None:
    word = match["word"]
    if word.lower() in ("ms", "prof", "mr", "mrs", "dr") and not (
        word[0].isupper() and re.match(r"\s+[A-Z]", match.string[match.end() :])
    ):
        return None
    return f" {_like(word, tables.LOOSE[word.lower()])} "


def _greek(match: re.Match[str]) -> str | None:
    return f" {tables.GREEK[match[0]]} " if match[0] in tables.GREEK else None


def rules() -> tuple[Rule, ...]:
    """In the order in which they are tried."""
    abbreviations = alternatives(tables.ABBREVIATIONS)
    days = alternatives(map(str.capitalize, tables.DAYS))
    months = alternatives(map(str.capitalize, tables.MONTHS))
    return (
        rule(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]+", _mixed_word),
        rule(NUMBER, _plain_number),
        rule(r"(?<!\w)(?:w/o|w/|b/c|n/a)(?![\w/])", _with, re.I),
        rule(r"(?<!\w)w/(?=\w)", " with "),
        rule(r"(?<![\w'])St\.", _saint_or_street, re.I),
        rule(r"(?<![\w'])Dr\.", _doctor_or_drive, re.I),
        rule(r"(?<![\w'.])Ph\.?D\b\.?", _dotted),
        rule(rf"(?<!\w)(?P<month>{MONTH})\.(?=\s|$|[,;)])", _month, re.I),
        rule(
            rf"(?<!\w)(?P<day>{days})\.(?=,|\s+(?:\d|{MONTH}\b))|(?<!\w)(?P<day_>Mon|Tues?|Thu(?:rs?)?|Fri)\.",
            _weekday,
        ),
        rule(rf"(?<!\w)(?P<a>{days})\.?\s?[-–]\s?(?P<b>{days})(?!\w)\.?", _from_to),
        rule(rf"(?<!\w)(?P<a>{months})\.?\s?[-–]\s?(?P<b>{months})(?!\w)\.?", _from_to),
        rule(rf"(?<![\w'.])(?P<word>{abbreviations})\.(?!\w)", _abbreviation, re.I),
        rule(rf"(?<![\w'.])(?P<word>{'|'.join(tables.LOOSE)})(?![\w.'])", _loose, re.I),
        rule(
            r"(?<![\w'])(?:[A-Za-z]\.){2,}(?!\w)|(?<![\w'])(?:[A-Za-z]\.)+[A-Za-z](?![\w'])",
            _dotted,
        ),
        rule(r"(?<![\w'.])[A-HJ-Z]\.(?=\s*[A-Z])", _dotted),
        rule(r"(?<![\w'])(?P<roman>[IVXLCDM]+)(?![\w'])", _roman),
        rule(r"(?<![\w'])A(?![\w'])", _letter_a),
        rule(r"(?P<caps>[A-Z]{2,})(?P<ending>'?s|'S)?(?!'?[A-Za-z])", _caps_word),
        rule(r"[A-Z]+'[A-Z]+(?![A-Za-z])", _contraction),
        rule(r"[A-Za-z]+(?:'[A-Za-z]+)*", _word),
        rule(GREEK_LETTER, _greek),
    )
