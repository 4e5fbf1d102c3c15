"""Addresses of the web and of mail, names of files, hashtags: what is said for their signs."""

from __future__ import annotations

import re

from . import english_tables as tables
from .english_numbers import digits, number
from .english_words import in_words, is_sayable, spell
from .lexicon import knows
from .pieces import HAN, KANA, Rule, alternatives, rule


def _url(match: re.Match[str]) -> str:
    return f" {_spell_address(match['address'])} "


def _email(match: re.Match[str]) -> str:
    return f" {_spell_address(match[0])} "


def _spell_address(address: str) -> str:
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|.", address):
        if part.isdecimal():
            said.append(number(part) if len(part) <= 2 and part[0] != "0" else digits(part))
        elif part.isalpha() and part.isascii():
            said.append(_url_word(part))
        else:
            said.append(tables.URL_SIGNS.get(part, ""))
    return " ".join(filter(None, said))


def _url_word(word: str) -> str:
    short = word.lower()
    if short in tables.RESPELT:
        return tables.RESPELT[short]
    if len(short) < 3:
        return short if short in tables.SHORT_WORDS else spell(short)
    return short if is_sayable(short) and (len(short) > 3 or knows(short)) else spell(short)


def _file(match: re.Match[str]) -> str:
    return f" {_spell_address(match[0])} "


def _hashtag(match: re.Match[str]) -> str:
    return f" hashtag {in_words(match['tag'])} "


def _handle(match: re.Match[str]) -> str:
    return f" at {in_words(match['name'])} "


def _domain(match: re.Match[str]) -> str | None:
    # "Hello.It was" forgot a space; addresses are in lower case, or all of one.
    last = match["address"].partition("/")[0].rpartition(".")[2]
    if last[0].isupper() and not match["address"].isupper():
        return None
    if last in ("it", "in", "me", "us", "au", "is") and not match["address"].count(".") > 1:
        return None
    return _url(match)


def rules() -> tuple[Rule, ...]:
    """In the order in which they are tried."""
    domains, files = (
        alternatives(tables.DOMAINS),
        alternatives(tables.FILES),
    )
    end = r"(?<![.,;:!?'\")\]])"
    return (
        rule(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?<![.])", _email, re.ASCII),
        rule(rf"(?:https?|ftp)://(?P<address>[^\s<>\"{KANA}{HAN}]+){end}", _url, re.I),
        rule(rf"(?P<address>www\.[^\s<>\"{KANA}{HAN}]+){end}", _url, re.I),
        rule(
            rf"(?<![\w@])(?P<address>(?:[a-z0-9-]+\.)+(?:{domains})(?:/[^\s<>\"{KANA}{HAN}]*)?){end}(?!\w)",
            _domain,
            re.I,
        ),
        rule(rf"(?<!\w)[\w-]+(?:\.[\w-]+)*\.(?:{files})(?!\w)", _file, re.ASCII),
        rule(r"(?<![\w&])#(?P<tag>[A-Za-z_]\w*)", _hashtag, re.ASCII),
        rule(r"(?<!\w)@(?P<name>[A-Za-z_]\w*)", _handle, re.ASCII),
        rule(r"(?<=\b[CFGAD])#(?!\w)", " sharp "),
        rule(r"\b(?:C|c)\+\+", " C plus plus "),
        rule(r"\.NET\b", " dot net "),
    )
