"""No text loses anything silently: 500 made-up ones, of both languages, with every kind of sign."""

import random
import unicodedata

import pytest

from mutual_forcing.text.inventory import NEEDED, PHONEMES, as_known
from mutual_forcing.text.normalise import find_language, normalise
from mutual_forcing.text.phonemes import MAX_CHARACTERS, read


def words(text: str) -> list[str]:
    return text.split()


ENGLISH = words(
    """
hello world please STOP NASA FBI don't we'll naïve café Ｈｅｌｌｏ ﬁne St. Dr. Mr. vs. e.g. p.m.
U.S.A. Ph.D. $10 £3.50 €20 ¥500 $1.5 million $5M 5kg 10% -5 3.14 1,234,567 007 1990s '90s 5:02:54
12:30 4/23/2021 2024-05-03 Jan. March 21st 1st 1/2 2½ 24/7 3-5 1.2.3 v2 (555) 123-4567 +44
https://example.com/a?b=1&c=% me@site.org #tag #1 @name C# C++ H2O 4K MP3 COVID-19 II VIII IV MIX
AT&T R&D **bold** _it_ `code` <b> </b> <break/> &amp; [x](https://y.z) A I a x X Q π Ω ° °C 5°C
10×10 5'10\" ... … — – - -- ! ? , ; : . \" ' ( ) [ ] { } / \\ | ~ ^ = + < > & % @ # * _ ™ ©
iPhone YouTube O'Brien rock'n'roll l'été Zzyzx qwrt hmm x² H₂O ① Ⅷ № 🙂 😀 👨‍👩‍👧 🇯🇵 1️⃣ ❤️ ★ ♫
→ Привет мир مرحبا שלום สวัสดี 안녕 नमस्ते 世界 東京タワー こんにちは"""
)
JAPANESE = words(
    """
こんにちは 世界 です 東京 へ 行きます 私は ｶﾞｷﾞﾊﾝ コンピューター すご〜い きゃりーぱみゅ
ヴァイオリン ゎ ㇰ ヶ月 々 〆切 龘 你好 说 っ ー んっ 2024年5月3日 午後3時15分 1,500円 ￥500 $10
50% -5度 3.14 1/2 4/23 10:30 03-1234-5678 5〜10人 ５ ①番 第IV章 5kg 100m iPhone MacBook NASA
Hello don't XKCD https://example.com/a a@b.co.jp #タグ C# ＡＢＣ α ＝ ＋ × ÷ 〒 ㈱ ㌔ ㍻ ℃ （仮）
「引用」 『本』 、 。 ！ ？ … ‥ ・ ー ～ 〜 — 【 】 ＊ ＿ ｜ ゛ ゜ ★ ♪ 😀 (´・ω・`) ｷﾀ━ Привет
안녕 مرحبا สวัสดี"""
)
BETWEEN = (
    "",
    "",
    " ",
    " ",
    " ",
    "\n",
    "\n\n",
    "\t",
    "\u00a0",
    "\u200b",
    "\u3000",
    "\u202e",
    "\u0301",
)
SILENT = frozenset("`*_~|#^<>\"'=/\\+-¨¯´¸˙゛゜｀´˜")
"""Symbols that may be markup or quotation: alone they need not be said."""


def make_text(rng: random.Random, own: list[str], other: list[str]) -> str:
    parts = []
    for _ in range(rng.randint(1, 25)):
        kind = rng.random()
        if kind < 0.75:
            part = rng.choice(own)
        elif kind < 0.85:
            part = rng.choice(other)
        elif kind < 0.92:
            part = "".join(chr(rng.randint(32, 0x24F)) for _ in range(rng.randint(1, 6)))
        else:
            part = "".join(
                chr(rng.choice((rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x1FAFF))))
                for _ in "12"
            )
        parts.append(part + rng.choice(BETWEEN))
    return "".join(parts)[:MAX_CHARACTERS]


def must_be_said(sign: str) -> bool:
    """Letters, digits, symbols and signs that no font has; neither punctuation, spaces nor marks."""
    sign = unicodedata.normalize("NFKC", sign)[0]
    category = unicodedata.category(sign)
    return (
        (category[0] in "LNS" or category in ("Co", "Cn"))
        and sign not in SILENT
        and category != "Sk"
    )


def is_said(source: str, spoken: str) -> bool:
    """Letters and digits have words; a symbol may be a pause, and so is <break/>."""
    pause = source.startswith("<break") or not any(sign.isalnum() for sign in source)
    return any(sign.isalnum() or (pause and sign in ".,。、") for sign in spoken)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ja"])
def test_nothing_is_dropped_silently(language: str) -> None:
    rng = random.Random(0)
    pools = (ENGLISH, JAPANESE) if language == "en" else (JAPANESE, ENGLISH)
    readings = 0
    for _ in range(250):
        text = make_text(rng, *pools)
        pieces = normalise(text, language)
        assert "".join(piece.source for piece in pieces) == text
        spoken_before = ""  # of a sign that became several
        for piece in pieces:
            said = spoken_before + piece.spoken
            wanted = any(map(must_be_said, piece.source))
            assert not wanted or piece.unspoken or is_said(piece.source, said), (text, piece)
            spoken_before = "" if piece.source else said
        try:
            reading = read(text, language)
        except ValueError as error:
            assert "nothing that can be spoken" in str(error) or "empty" in str(error), text
            continue
        readings += 1
        assert all(reading.unspoken) and len(set(reading.unspoken)) == len(reading.unspoken)
        known = set(PHONEMES[: NEEDED[language]])
        said = [as_known(p, NEEDED["ja"]) for word in reading.words for p in word.phonemes]
        assert set(said) <= known and all(word.phonemes for word in reading.words), text
        named = sum(piece.unspoken for piece in pieces)
        assert bool(reading.unspoken) >= bool(named), text
    assert readings > 200


def test_the_language_of_any_text_can_be_found() -> None:
    rng = random.Random(1)
    for _ in range(100):
        assert find_language(make_text(rng, ENGLISH, JAPANESE)) in ("en", "ja")


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "A",
        "A ",
        "1",
        ".",
        ". ",
        "-",
        " ",
        "\n",
        "'",
        "<",
        "1,",
        "1/",
        "@",
        "a@",
        "a.",
        "#",
        "あ",
        "漢",
        "0:",
        "*",
        "X ",
    ],
)
def test_long_repetitions_take_no_long_time(unit: str) -> None:
    text = ("x" + unit * MAX_CHARACTERS)[:MAX_CHARACTERS]
    for language in ("en", "ja"):
        assert "".join(piece.source for piece in normalise(text, language)) == text
