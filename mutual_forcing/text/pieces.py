"""Text cut into pieces: what is said for each, and which cannot be said. Nothing gets lost between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

GREEK_LETTER = r"(?<![\u0370-\u03ff\u1f00-\u1fff])[α-ωΑ-Ω](?![\u0370-\u03ff\u1f00-\u1fff])"
"""One by itself, as in formulas; words of them are Greek."""
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
HAN = "々〆〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U0003ffff"
JAPANESE_RUN = re.compile(f"[{KANA}{HAN}]+")
"""Characters of regular expressions for Japanese letters, and such a run of them."""
_SIGNS = {
    **dict.fromkeys("’‘ʼ‛′´`＇ˈ", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑‒−﹣－", "-"),
    **dict.fromkeys("〜～∼", "~"),
    **dict.fromkeys("\u2028\u2029\x85\x0b\x0c", "\n"),
    **{"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8", "⁄": "/"},
    **{"¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁶": "^6", "⁷": "^7", "⁸": "^8"},
    **{"⁹": "^9", "⁰": "^0", "⁻": "^-", "™": " trademark", "℠": " service mark", "№": "No."},
    **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O"},
    **{"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"},
    **{"㈱": "株式会社", "㈲": "有限会社"},
    **{"ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "ng", "Ŋ": "Ng", "゠": "="},
}
"""Written otherwise, meaning the same. What NFKC makes of them would lose it."""
_STYLED = re.compile(
    r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL LETTER) ([A-Z])"
)
_ATTACHED = "ﾞﾟ"
"""Half-width voicing marks, part of the kana before them."""


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    source: the part as it was typed; the sources of all pieces, joined, are the text.
    spoken: the words that are said for it, with . or , where there is a pause; "" for what is silent, such
    as spaces, quotation marks and markup.
    unspoken: whether it ought to be said and cannot.
    """

    source: str
    spoken: str = ""
    unspoken: bool = False


class Rule(NamedTuple):
    """What matches is said as `say(match)`; None leaves it to the rules that follow. See Piece.unspoken."""

    pattern: re.Pattern[str]
    say: Callable[[re.Match[str]], str | None]
    unspoken: bool = False


def alternatives(names: Iterable[str]) -> str:
    """A regular expression for any of the names, the longest first."""
    return "(?:" + "|".join(map(re.escape, sorted(names, key=lambda n: (-len(n), n)))) + ")"


def rule(pattern: str, say: Callable[[re.Match[str]], str | None] | str, flags: int = 0) -> Rule:
    """A rule that says a text, or what a function makes of the match."""
    made = say if callable(say) else lambda match: say
    return Rule(re.compile(pattern, flags), made)


def unspeakable(pattern: str, flags: int = 0) -> Rule:
    """A rule for what cannot be said."""
    return Rule(re.compile(pattern, flags), lambda match: "", unspoken=True)


def markup(pause: str, conjunction: str) -> tuple[Rule, ...]:
    """What HTML, SSML and Markdown put into a text, and faces made of signs, in any language.

    pause: said for a break; conjunction: said for an escaped ampersand.
    """
    return (
        rule(r"<break\b[^<>]*>", pause, re.I),
        unspeakable(r"</?[A-Za-z!][^<>]*>"),
        rule(r"&amp;", conjunction),
        rule(r"&(?:nbsp|quot|apos|#39|lt|gt|shy);", " "),
        rule(r"```(?:\w+(?=\n))?|`", ""),
        unspeakable(r"(?<!\S)(?:[:;=]['-]?[()DPpOo|\\/*]+|<3|\^[_.]*\^|T_T|[xX]D|>_<|-_-)(?!\S)"),
        unspeakable(r"(?<=\])\((?:https?://|www\.|mailto:|/|#)[^\s)]*\)"),
        rule(r"(?<![^\n])#{1,6}(?=\s+\S)|(?<![^\n])\s*(?:[-*•·‣]|>)+(?=\s)", ""),
    )


def scan(text: str, rules: Sequence[Rule]) -> list[Piece]:
    """Cut the text into pieces, each by the first rule that matches its folded form (see `fold`).

    What no rule matches cannot be spoken.
    """
    folded, starts = fold(text)
    pieces, position = [], 0
    while position < len(folded):
        end, spoken, unspoken = _first(rules, folded, position)
        while unspoken and starts[end] == starts[position]:
            end += 1  # all that one character was folded into
        pieces.append(Piece(text[starts[position] : starts[end]], spoken, unspoken))
        position = end
    return _with_runs(pieces)


def fold(text: str) -> tuple[str, list[int]]:
    """The text in plain signs, and where in the text each of them begins (its length at the end).

    Compatibility forms (full and half width, ligatures, circled numbers) become what they stand for, Latin
    letters lose their accents, marks that nobody sees go.
    """
    folded: list[str] = []
    starts: list[int] = []
    clusters = _clusters(text)
    for start, end in clusters:
        plain = _plain(text[start:end])
        folded.append(plain)
        starts.extend([start] * len(plain))
    if starts:
        starts[0] = 0  # what is unseen before the first sign belongs to it
    return "".join(folded), [*starts, len(text)]


def shown(piece: Piece) -> str:
    """How a piece that cannot be spoken is named to people: as it is, or by its code points."""
    joiner = (
        "\u200d"  # holds an emoji's parts together; what else is unseen may turn the line around it
    )
    source = re.sub(r"^\((.+)\)$", r"\1", piece.source.strip())  # of a link
    seen = [c for c in source if c == joiner or unicodedata.category(c) != "Cf"]
    return "".join(c if c.isprintable() or c == joiner else f"U+{ord(c):04X}" for c in seen)


def _first(rules: Sequence[Rule], folded: str, position: int) -> tuple[int, str, bool]:
    for pattern, say, unspoken in rules:
        match = pattern.match(folded, position)
        if match is None or match.end() == position:
            continue
        spoken = say(match)
        if spoken is not None:
            return match.end(), spoken, unspoken
    return position + 1, "", True


def _with_runs(pieces: list[Piece]) -> list[Piece]:
    """Join neighbouring pieces that cannot be spoken: a word of an unknown script is one thing."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].unspoken and piece.unspoken:
            joined[-1] = Piece(joined[-1].source + piece.source, "", True)
        else:
            joined.append(piece)
    return joined


def _clusters(text: str) -> list[tuple[int, int]]:
    """Spans of signs with the marks that change them."""
    spans: list[tuple[int, int]] = []
    for index, sign in enumerate(text):
        if spans and (_is_mark(sign) or sign in _ATTACHED):
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
    return spans


def _is_mark(sign: str) -> bool:
    return sign > "\x7f" and unicodedata.category(sign) in ("Mn", "Me", "Cf")


def _styled(sign: str) -> str:
    """Small capitals and letters in boxes as the letters that they are."""
    name = "" if sign.isascii() else unicodedata.name(sign, "")
    found = _STYLED.fullmatch(name)
    return found[1].lower() if found else sign


def _plain(cluster: str) -> str:
    if cluster < "\x7f" and len(cluster) == 1:
        return cluster
    seen = "".join(c for c in cluster if unicodedata.category(c) not in ("Cf", "Me"))
    seen = "".join(c for c in seen if not "\ufe00" <= c <= "\ufe0f")  # how an emoji is drawn
    if seen in _SIGNS:
        return _SIGNS[seen]
    base = _SIGNS.get(seen[:1], seen[:1]) + seen[1:]
    composed = unicodedata.normalize("NFKC", base)
    if len(base) == 1 and composed[0] == "(" and composed[-1] == ")":
        composed = composed[1:-1] or composed  # ⑴, ㈪
    letters = [c for c in unicodedata.normalize("NFKD", composed) if not unicodedata.combining(c)]
    plain = "".join(_SIGNS.get(c) or _styled(c) for c in letters)
    return plain if plain.isascii() else composed
