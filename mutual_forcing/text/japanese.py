"""Japanese as people write it, to what haqumei's dictionary reads: numbers, dates, signs, addresses.

Plain numbers, Latin words and kanji stay: the dictionary reads them in their context (一本, 二本; NASA).
"""

from __future__ import annotations

import functools
import re

from .english_tables import DOMAINS, GREEK
from .english_words import roman_value
from .pieces import GREEK_LETTER, HAN, KANA, Rule, alternatives, markup, rule

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")
_CURRENCIES = {
    **{"$": "ドル", "US$": "ドル", "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン"},
    **{"₹": "ルピー", "₽": "ルーブル", "₿": "ビットコイン"},
}
_SIGNS = {
    **{
        "&": "アンド",
        "+": "プラス",
        "=": "イコール",
        "×": "かける",
        "÷": "わる",
        "±": "プラスマイナス",
    },
    **{
        "<": "小なり",
        ">": "大なり",
        "≤": "以下",
        "≦": "以下",
        "≥": "以上",
        "≧": "以上",
        "≠": "ノットイコール",
    },
    **{"≈": "約", "≒": "約", "∞": "無限大", "√": "ルート", "%": "パーセント", "‰": "パーミル"},
    **{
        "@": "アット",
        "#": "シャープ",
        "°": "度",
        "©": "コピーライト",
        "®": "登録商標",
        "§": "セクション",
    },
    **{
        "→": "、",
        "⇒": "、",
        "←": "、",
        "↑": "、",
        "↓": "、",
        "\\": "バックスラッシュ",
        "^": "キャレット",
    },
    **{"〒": "郵便番号", "℡": "電話", "〆": "しめ", "♯": "シャープ", "¢": "セント"},
    **{sign: name for sign, name in _CURRENCIES.items() if len(sign) == 1},
}
_ADDRESS_SIGNS = {
    **{
        ".": "ドット",
        "/": "スラッシュ",
        "-": "ハイフン",
        "_": "アンダーバー",
        "?": "クエスチョンマーク",
    },
    **{
        "=": "イコール",
        "&": "アンド",
        "#": "シャープ",
        "%": "パーセント",
        "+": "プラス",
        "~": "チルダ",
    },
    **{":": "コロン", "@": "アットマーク"},
}
_EXTENDED_KANA = str.maketrans(
    "ㇰㇱㇲㇳㇴㇵㇶㇷㇸㇹㇺㇻㇼㇽㇾㇿ", "クシストヌハヒフヘホムラリルレロ"
)
_SMALL_KANA = _EXTENDED_KANA | str.maketrans("ゎヮゕゖヵヶ", "わワかけカケ")
"""Kana that the dictionary does not read by themselves, as those that sound alike."""
_VOICED = {"ヷ": "ヴァ", "ヸ": "ヴィ", "ヹ": "ヴェ", "ヺ": "ヴォ", "ゟ": "より", "ヿ": "こと"}
_LETTER_NAMES = (
    "エー ビー シー ディー イー エフ ジー エイチ アイ ジェー ケー エル エム エヌ オー ピー キュー アール "
    "エス ティー ユー ブイ ダブリュー エックス ワイ ゼット"
)
_LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTER_NAMES.split(), strict=True))
_GREEK_NAMES = (
    "アルファ ベータ ガンマ デルタ イプシロン ゼータ イータ シータ イオタ カッパ ラムダ ミュー ニュー "
    "クサイ オミクロン パイ ロー シグマ タウ ウプシロン ファイ カイ プサイ オメガ"
)
_GREEK = dict(zip(dict.fromkeys(GREEK.values()), _GREEK_NAMES.split(), strict=True))


def digits(text: str) -> str:
    """Each digit by its name, other characters left out."""
    return " ".join(_DIGITS[int(sign)] for sign in text if sign.isdecimal())


def _address(match: re.Match[str]) -> str:
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|.", match["address"]):
        if part.isdecimal():
            said.append(digits(part))
        elif part.isalpha() and part.isascii():
            said.append(spell(part) if len(part) <= 2 else part)
        else:
            said.append(_ADDRESS_SIGNS.get(part, ""))
    return " ".join(filter(None, said))


def spell(text: str) -> str:
    """Latin letters by their names."""
    return "".join(_LETTERS[letter] for letter in text.upper())


def _phone(match: re.Match[str]) -> str:
    return "、".join(map(digits, re.findall(r"\d+", match[0])))


def _date(match: re.Match[str]) -> str | None:
    year, month, day = match["y"], int(match["m"]), int(match["d"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{year}年{month}月{day}日"


def _time(match: re.Match[str]) -> str | None:
    hour, minute, second = int(match["h"]), int(match["m"]), match["s"]
    if hour > 24 or minute > 59:
        return None
    half = {"a": "午前", "p": "午後"}.get((match["half"] or " ")[0].lower(), "")
    said = f"{half}{hour}時" + (f"{minute}分" if minute or second else "")
    return said + (f"{int(second)}秒" if second else "")


def _money(match: re.Match[str]) -> str:
    minus = "マイナス" if match["minus"] else ""
    magnitude = {"k": "千", "m": "百万", "b": "十億"}.get(
        (match["magnitude"] or " ")[0].lower(), ""
    )
    amount = match["n"].replace(",", "") + magnitude + (match["kanji"] or "")
    return f"{minus}{amount}{_CURRENCIES[match['sign']]}"


def _fraction(match: re.Match[str]) -> str | None:
    a, b = int(match["a"]), int(match["b"])
    if 1 <= a <= 12 < b <= 31:
        return f"{a}月{b}日"
    return f"{b}分の{a}" if b else None


def _range(match: re.Match[str]) -> str:
    return f"{match['low']}から{match['high']}"


def _weekday(match: re.Match[str]) -> str:
    return f" {match['day']}曜日 "


def _block(match: re.Match[str]) -> str:
    """The numbers of an address: 1-2-3."""
    return "の".join(map(_number, match[0].split("-")))


def _score(match: re.Match[str]) -> str:
    return f"{match['low']}対{match['high']}"


def _version(match: re.Match[str]) -> str:
    head = "バージョン" if match["v"] else ""
    return head + "テン".join(map(_number, match["parts"].split(".")))


def _number(text: str) -> str:
    return digits(text) if len(text) > 1 and text[0] == "0" else text


def _plain_number(match: re.Match[str]) -> str:
    text = match[0].replace(",", "")
    whole = text.partition(".")[0]
    # Beyond this the dictionary gives no reading.
    return text if len(whole) <= 16 and not (len(whole) > 1 and whole[0] == "0") else digits(text)


def _roman(match: re.Match[str]) -> str | None:
    value = roman_value(match[0])
    return str(value) if value and re.fullmatch("[IVX]+", match[0]) else None


def _latin(match: re.Match[str]) -> str:
    return match[0].replace("'", "")


def _greek(match: re.Match[str]) -> str | None:
    return _GREEK[GREEK[match[0]]] if match[0] in GREEK else None


def _sign(match: re.Match[str]) -> str:
    return _SIGNS[match[0]]


def _stop(match: re.Match[str]) -> str:
    strongest = next((sign for sign in "?!.;:," if sign in match[0]), ",")
    return {"?": "？", "!": "！", ".": "。"}.get(strongest, "、")


def _full_stop(match: re.Match[str]) -> str:
    strongest = next((sign for sign in "？！。、" if sign in match[0]), "、")
    return strongest


def _newline(match: re.Match[str]) -> str:
    before = match.string[: match.start()].rstrip()
    ends = match[0].count("\n") > 1 or match["bullet"] is not None
    return "。" if ends and before and before[-1] not in "。、！？.,!?" else " "


def _kana(match: re.Match[str]) -> str:
    # Within words ヶ and its like have readings of their own.
    said = match[0].translate(_SMALL_KANA if len(match[0]) == 1 else _EXTENDED_KANA)
    return "".join(_VOICED.get(sign, sign) for sign in said)


def _star(match: re.Match[str]) -> str:
    product = re.search(r"\d\s*$", match.string[: match.start()])
    return "かける" if product and re.match(r"\s*\d", match.string[match.end() :]) else ""


@functools.lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """All rules in the order in which they are tried; compiled at first use."""
    n, end = _NUMBER, r"(?<![.,;:!?'\")\]])"
    number, after = r"(?<![A-Za-z\d.,])", r"(?![A-Za-z\d])"
    signs = "".join(map(re.escape, _SIGNS))
    address = r"[A-Za-z0-9._~:/?#@!$&'*+,;=%-]"
    currency, domains = alternatives(_CURRENCIES), alternatives(DOMAINS)
    return (
        *markup("。", "アンド"),
        rule(r"\((?P<day>[月火水木金土日])\)", _weekday),
        rule(r"\(株\)", "株式会社"),
        rule(r"\(有\)", "有限会社"),
        rule(r"(?P<address>[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)", _address),
        rule(rf"(?:https?|ftp)://(?P<address>{address}+){end}", _address, re.I),
        rule(rf"(?P<address>www\.{address}+){end}", _address, re.I),
        rule(
            rf"(?<![A-Za-z\d@])(?P<address>(?:[a-z0-9-]+\.)+{domains}(?:/{address}*)?){end}{after}",
            _address,
        ),
        rule(rf"(?<![A-Za-z\d])#(?=[A-Za-z_{KANA}{HAN}])", "ハッシュタグ "),
        rule(r"(?<=\b[CFGAD])#", "シャープ"),
        rule(r"(?<![\d-])0\d{1,4}-\d{1,4}-\d{3,4}(?![\d-])", _phone),
        rule(r"(?<=〒)\s?\d{3}-\d{4}|(?<![\d-])\d{3}-\d{4}(?![\d-])", _phone),
        rule(r"(?<!\d)(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)", _date),
        rule(r"(?<!\d)(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})(?!\d)", _date),
        rule(
            rf"{number}(?P<h>\d{{1,2}}):(?P<m>\d\d)(?::(?P<s>[0-5]\d))?(?!\d)(?:\s?(?P<half>[ap]\.?m(?![A-Za-z])\.?))?",
            _time,
            re.I,
        ),
        rule(
            rf"(?P<minus>-)?(?P<sign>{currency})\s?(?P<n>{n})(?P<magnitude>[kKMB](?![A-Za-z]))?(?P<kanji>[万億千百]+)?",
            _money,
        ),
        rule(r"(?<![A-Za-z\d.])(?P<v>v)?(?P<parts>\d+(?:\.\d+){2,})(?!\d)", _version, re.I),
        rule(r"(?<![A-Za-z\d.])(?P<v>v)(?P<parts>\d+(?:\.\d+)*)(?!\d)", _version),
        rule(r"(?<![\d/])(?P<a>\d+)/(?P<b>\d+)(?![\d/])", _fraction),
        rule(r"(?<![A-Za-z\d.,-])\d{1,4}(?:-\d{1,4}){2,}(?![\d-])", _block),
        rule(r"(?<![A-Za-z])(?:No|no|NO)\.\s?(?=\d)", "ナンバー"),
        rule(r"(?<![A-Za-z])[Vv]er\.\s?(?=\d)", "バージョン"),
        rule(r"(?<=\d)\s?°C(?![A-Za-z])", "度"),
        rule(rf"{number}(?P<low>{n}%?)\s?[-–~〜]\s?(?P<high>{n})(?![\d-])", _range),
        rule(rf"{number}(?P<low>\d+):(?P<high>\d+)(?![\d:])", _score),
        rule(r"(?<![\dA-Za-z)])-(?=\d)", "マイナス"),
        rule(r"(?<=\d)\s?[xX×*]\s?(?=\d)", "かける"),
        rule(n, _plain_number),
        rule(r"(?<![A-Za-z])[IVX]{2,}(?![A-Za-z])", _roman),
        rule(r"[A-Za-z]+(?:'[A-Za-z]+)*", _latin),
        rule(GREEK_LETTER, _greek),
        rule(rf"(?<=[{KANA}])[〜~]+", "ー"),
        rule(rf"(?<=[{KANA}])[―—−-]+(?=[{KANA}。、！？!?\s]|$)", "ー"),
        rule(rf"[{KANA}]+", _kana),
        rule(rf"[{HAN}]+", lambda match: match[0]),
        rule(r"\*+", _star),
        rule(r"\s*\n\s*(?P<bullet>[-*•・‣](?=\s)|(?=\d+[.)]\s))?", _newline),
        rule(r"\s+", " "),
        rule(r"[、。！？]+", _full_stop),
        rule(r"\s*\.{2,}|…+|‥+|[—―–]+|-{2,}", "、"),
        rule(r"[,;:!?.]+", _stop),
        rule(r"[・|•‣/〜~]", "、"),
        rule(r"[「」『』【】〈〉《》〔〕()\[\]{}\"'_＿\-¡¿゛゜｀´]", " "),
        rule(rf"[{signs}]", _sign),
    )
