"""English as people write it, to the words that are said; here its signs, spaces and emphasis."""

from __future__ import annotations

import functools
import itertools
import re

from . import english_numbers, english_web, english_words
from . import english_tables as tables
from .english_numbers import exponent
from .pieces import JAPANESE_RUN, Rule, markup, rule


def _sign(match: re.Match[str]) -> str:
    return f" {tables.SIGNS[match[0]]} "


def _power(match: re.Match[str]) -> str:
    power = match["power"]
    said = {"2": "squared", "3": "cubed"}.get(power)
    return f" {said or 'to the ' + exponent(power)} "


def _newline(match: re.Match[str]) -> str:
    """A blank line, the end of a heading and the beginning of a list's next item end a sentence."""
    before = match.string[: match.start()]
    line = before.rpartition("\n")[2]
    blank = match[0].count("\n") > 1
    ends = (
        blank
        or match["bullet"] is not None
        or re.match(r"#{1,6}\s", line)
        or match["heading"] is not None
    )
    needed = before.strip() and before.rstrip()[-1] not in ".,;:!?"
    return " . " if ends and needed else " "


def _emphasis() -> tuple[Rule, ...]:
    return (
        rule(r"\*+(?=\S)|(?<=\S)\*+|(?<![\w*])\*+(?![\w*])|_{2,}|~~", _star),
        rule(r"(?<!\w)_(?=\w)|(?<=\w)_(?!\w)", ""),
    )


def _star(match: re.Match[str]) -> str | None:
    """Emphasis is silent; between numbers a star multiplies."""
    sum_of = re.search(r"[\d)]\s*$", match.string[: match.start()])
    return " times " if sum_of and re.match(r"\s*[\d(]", match.string[match.end() :]) else ""


def _signs() -> tuple[Rule, ...]:
    signs = "".join(map(re.escape, tables.SIGNS))
    return (
        rule(r"(?<=[\w)])\^(?P<power>-?\d+)", _power),
        rule(
            r"\s*\n\s*(?P<bullet>[-*•·‣](?=\s)|(?=\d+[.)]\s))?(?P<heading>(?=#{1,6}\s))?", _newline
        ),
        rule(r"\s+(?:-{1,3}|[–—―]+)\s+|[—―]+|-{2,}|–", " , "),
        rule(r"\s*(?:\.\s?){2,}(?=\s*[\"')\]]*\s*(?:[A-Z]|$))", " . "),
        rule(r"\s*(?:\.\s?){2,}", " , "),
        rule(r"(?<=\d)\s?=>?\s?|->|=>", _arrow),
        rule(r"\s+", " "),
        rule(r"[,;:!?.]+", _punctuation),
        rule(r"[。、！？・]", _japanese_stop),
        rule(r"[•·‣|]", " , "),
        rule(r"(?<=\d)/(?=[A-Za-z]{2,})", " per "),
        rule(r"/", " "),
        rule(r"~+(?=\s*\d)", " about "),
        rule(r"~+", ""),
        rule(rf"[{signs}]", _sign),
        rule(r"[\"'()\[\]{}_*\-¡¿‥「」『』【】〈〉《》〔〕‹›]", ""),
        Rule(JAPANESE_RUN, lambda match: f" {match[0]} "),
    )


def _arrow(match: re.Match[str]) -> str:
    return " equals " if match[0].strip() == "=" else " to "


def _punctuation(match: re.Match[str]) -> str:
    """The strongest of several signs; none of them before the first word."""
    strongest = next((sign for sign in "?!.;:," if sign in match[0]), ",")
    return f" {strongest} "


def _japanese_stop(match: re.Match[str]) -> str:
    return {"。": " . ", "！": " ! ", "？": " ? ", "、": " , ", "・": " "}[match[0]]


@functools.lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """All rules in the order in which they are tried; compiled at first use."""
    parts = (english_web.rules(), english_numbers.rules(), english_words.rules())
    return (*markup(" . ", " and "), *_emphasis(), *itertools.chain(*parts), *_signs())
