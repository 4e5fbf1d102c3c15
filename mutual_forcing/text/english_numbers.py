"""English numbers and what is made of them: dates, times, money, units, ranges, fractions."""

from __future__ import annotations

import re

from . import english_tables as tables
from .pieces import Rule, alternatives, rule

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_BEFORE = r"(?<![\w.,])"
"""A number begins here."""
MONTH = alternatives(tables.MONTHS)
_AM_PM = r"(?P<half>[ap]\.?m\b\.?)"
_MAGNITUDE = "(?:hundred|thousand|million|billion|trillion|mn|bn|tn|[kKmMbBT])"
_UNIT = alternatives(tables.UNITS)
_CURRENCY = alternatives(tables.CURRENCIES)
_YEAR_CUE = re.compile(
    r"(?:\b(?:in|since|by|from|until|till|before|after|during|circa|ca\.?|of|year|years|early|mid|late"
    rf"|spring|summer|autumn|fall|winter|{MONTH}\.?|class)|[(©'])\s*$",
    re.IGNORECASE,
)
_PLURAL_AFTER = re.compile(r"\s+(?!is\b|was\b|has\b|as\b|this\b|does\b)[a-z]+s\b")
_POWERS = {"^2": "square ", "2": "square ", "^3": "cubic ", "3": "cubic "}
_LONG = 15
_UNGROUPED = 9
"""Digits beyond which a number is read digit by digit, with thousands set off and without."""


def cardinal(value: int) -> str:
    """Such as "one hundred and five"."""
    return _words(value)


def ordinal(value: int) -> str:
    """Such as "twenty first"."""
    return _words(value, "ordinal")


def year(value: int) -> str:
    """Such as "nineteen eighty four"; 1000 to 2999."""
    return _words(value) if value % 1000 == 0 else _words(value, "year")


def digits(text: str) -> str:
    """Each digit by its name, other characters left out."""
    return " ".join(_words(int(sign)) for sign in text if sign.isdecimal())


def number(text: str) -> str:
    """A number as written, with or without separators, decimals and leading zeros."""
    whole, point, decimals = text.replace(",", "").partition(".")
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > (_LONG if "," in text else _UNGROUPED):
        said = digits(whole)
    else:
        said = cardinal(int(whole)) if whole else ""
    return f"{said} point {digits(decimals)}".strip() if point else said


def _words(value: int, form: str = "cardinal") -> str:
    # Imported at first use: it brings fifty languages.
    from num2words import num2words

    return num2words(value, lang="en", to=form).replace("-", " ").replace(",", "")


def _amount(text: str, magnitude: str | None) -> str:
    word = tables.MAGNITUDES.get(magnitude or "", magnitude or "")
    return f"{number(text)} {word}".strip()


def _is_one(text: str) -> bool:
    return text.replace(",", "") == "1"


def _plural(name: str) -> str:
    """The plural of a unit, of which "per" and what follows stay."""
    head, per, rest = name.partition(" per ")
    first, space, last = head.rpartition(" ")
    if name in tables.SAME_IN_PLURAL or last in tables.UNCHANGED:
        return name
    if head.startswith("degree "):
        return "degrees" + name[len("degree") :]
    if not last.isupper():
        last = tables.PLURALS.get(last, f"{last}s")
    return f"{first}{space}{last}{per}{rest}"


def _phone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    plus = "plus " if match[0].startswith("+") else ""
    return " " + plus + ", ".join(digits(group) for group in groups) + " "


def _iso_date(match: re.Match[str]) -> str | None:
    return _date(int(match["y"]), int(match["m"]), int(match["d"]))


def _slash_date(match: re.Match[str]) -> str | None:
    first, second, last = int(match["a"]), int(match["b"]), match["y"]
    month, day = (second, first) if first > 12 else (first, second)
    century = 2000 if len(last) == 2 and int(last) < 50 else 1900 if len(last) == 2 else 0
    return _date(century + int(last), month, day)


def _date(value: int, month: int, day: int) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31 and 1000 <= value < 3000):
        return None
    return f" {tables.MONTH_NAMES[month - 1]} {ordinal(day)}, {year(value)} "


def _month_day(match: re.Match[str]) -> str | None:
    day = int(match["d"])
    if not 1 <= day <= 31:
        return None
    # "May" and "March" are words, too; beside a number they are months when written as such.
    if not match["month"][0].isupper():
        return None
    said = f"{tables.MONTHS[match['month'].lower()]} {ordinal(day)}"
    until = f" to {ordinal(int(match['to']))}" if match["to"] else ""
    of = f", {year(int(match['y']))}" if match["y"] else ""
    return f" {said}{until}{of} "


def _day_month(match: re.Match[str]) -> str | None:
    day = int(match["d"])
    if not 1 <= day <= 31 or not match["month"][0].isupper():
        return None
    of = f", {year(int(match['y']))}" if match["y"] else ""
    link = "of " if re.search(r"\bthe\s*$", match.string[: match.start()], re.I) else ""
    return f" {ordinal(day)} {link}{tables.MONTHS[match['month'].lower()]}{of} "


def _time(match: re.Match[str]) -> str | None:
    groups = match.groupdict()
    hour, minute, second = int(match["h"]), int(groups.get("m") or 0), int(groups.get("s") or 0)
    if hour > 24 or minute > 59:
        return None
    if match["half"] and not 1 <= hour <= 12:
        return None
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    elif second or not match["half"]:
        said += " o'clock" if second or 1 <= hour <= 12 else " hundred"
    if second:
        said += f" and {cardinal(second)} second" + ("" if second == 1 else "s")
    if match["half"]:
        said += " " + match["half"][0].upper() + " M"
    return f" {said} {sentence_end(match, match['half'])}"


def sentence_end(match: re.Match[str], dotted: str | None) -> str:
    """A full stop, where that of an abbreviation also ends the sentence."""
    if not dotted or not dotted.endswith("."):
        return ""
    after = re.match(
        r"[\"')\]]*(?:\s+[\"'(\[]*(?P<next>[A-Z]\w*)|\s*$)", match.string[match.end() :]
    )
    if after is None:
        return ""
    return ". " if not after["next"] or after["next"].lower() in tables.STARTERS else ""


def _money(match: re.Match[str]) -> str:
    groups = match.groupdict()
    sign = "minus " if groups.get("minus") else ""
    name = groups.get("sign") or groups.get("code") or ""
    whole, part = (tables.CURRENCIES | tables.CODES)[name]
    magnitude = groups.get("magnitude")
    low, high = match["n"], groups.get("to")
    if high:
        said = f"{number(low)} to {_amount(high, magnitude)} {_plural(whole)}"
    else:
        # "A five dollar bill".
        single = re.search(r"\ban?\s*$", match.string[: match.start()], re.IGNORECASE)
        said = _price(low, magnitude, whole, part, plural=single is None)
    return f" {sign}{said} "


def _price(text: str, magnitude: str | None, whole: str, part: str, plural: bool) -> str:
    many = _plural(whole) if plural else whole
    units, _, cents = text.replace(",", "").partition(".")
    if magnitude or not part or len(cents) not in (0, 2):
        return f"{_amount(text, magnitude)} {many}"
    said = []
    if int(units or 0) or not int(cents or 0):
        said.append(f"{number(units or '0')} {whole if int(units or 0) == 1 else many}")
    if int(cents or 0):
        said.append(f"{cardinal(int(cents))} {part if int(cents) == 1 else _plural(part)}")
    return " and ".join(said)


def _range(match: re.Match[str]) -> str | None:
    low, high = match["low"], match["high"]
    read = _year_or_number if len(low) == len(high) == 4 else number
    said = f"{read(low)} to {read(high)}"
    unit = match["unit"]
    if unit:
        said += f" {_unit_name(unit, plural=True)}"
    return f" {said} "


def _year_or_number(text: str) -> str:
    return year(int(text)) if text.isdecimal() and 1000 <= int(text) < 3000 else number(text)


def _version(match: re.Match[str]) -> str:
    parts = match["parts"].split(".")
    if len(parts) == 4 and not match["v"]:  # the address of a machine
        return f" {' dot '.join(map(digits, parts))} "
    head = "version " if match["v"] else ""
    return f" {head}{' point '.join(map(number, parts))} "


def _decade(match: re.Match[str]) -> str | None:
    value = match["y"]
    tens = int(value[-2:])
    if tens % 10 or (len(value) == 2 and tens < 20):
        return None
    if len(value) == 4 and tens == 0:
        head = (
            _words(int(value)) if int(value) % 1000 == 0 else f"{cardinal(int(value[:2]))} hundred"
        )
        return f" {head}s "
    head = f"{cardinal(int(value[:2]))} " if len(value) == 4 else ""
    if tens == 10:
        return f" {head}tens "
    return f" {head}{cardinal(tens)[:-1]}ies "


def _ordinal(match: re.Match[str]) -> str | None:
    value = match["n"].replace(",", "")
    return f" {ordinal(int(value))} " if len(value) <= _LONG else None


def _mixed(match: re.Match[str]) -> str | None:
    said = _fraction_words(int(match["a"]), int(match["b"]))
    return f" {number(match['n'])} and {said} " if said else None


def _fraction(match: re.Match[str]) -> str:
    a, b = match["a"], match["b"]
    if f"{a}/{b}" in ("24/7", "9/11", "50/50"):
        return f" {number(a)} {number(b)} "
    said = _fraction_words(int(a), int(b)) if len(a + b) <= 6 else None
    if said is None and len(a + b) <= 4 and int(a) in range(1, 13) and int(b) in range(13, 32):
        said = f"{tables.MONTH_NAMES[int(a) - 1]} {ordinal(int(b))}"
    between = "out of" if b == "10" else "over"
    return f" {said or f'{number(a)} {between} {number(b)}'} "


def _fraction_words(a: int, b: int) -> str | None:
    if not (0 < a < b and (2 <= b <= 9 or b in (12, 16, 20, 32, 64, 100))):
        return None
    name = "half" if b == 2 else "quarter" if b == 4 else ordinal(b)
    return f"{cardinal(a)} {name}" + ("" if a == 1 else "s")


def _feet(match: re.Match[str]) -> str:
    feet, inches = match["f"], match["i"]
    said = f"{number(feet)} {'foot' if _is_one(feet) else 'feet'}"
    if inches:
        said += f" {number(inches)} {'inch' if _is_one(inches) else 'inches'}"
    return f" {said} "


def _unit(match: re.Match[str]) -> str | None:
    unit, spaced = match["unit"], bool(match["space"])
    if spaced and unit in tables.LETTER_LIKE and not _is_clearly_unit(match):
        return None
    one = _is_one(match["n"])
    sign = "minus " if match["minus"] else ""
    name = _POWERS.get(match["power"] or "", "") + _unit_name(unit, plural=not one)
    per = match["per"]
    below = _POWERS.get(match["per_power"] or "", "")
    tail = f" per {below}{_unit_name(per, plural=False)}" if per else ""
    return f" {sign}{number(match['n'])} {name}{tail} "


def _is_clearly_unit(match: re.Match[str]) -> bool:
    """Whether a letter after a number and a space is a unit: "5 m" is, "5 A" and "3 in a row" are not."""
    if match["unit"] == "in":
        return match.string[match.end() - 1 : match.end() + 1].endswith(".")
    if match["unit"] in ("m", "g", "L", "l", "V", "W"):
        return bool(re.match(r"\s*([.,;:!?)/]|$|\s[a-z])", match.string[match.end() :]))
    return False


def _unit_name(unit: str, plural: bool) -> str:
    name = tables.UNITS[unit]
    return _plural(name) if plural else name


def _times(match: re.Match[str]) -> str:
    between = "times" if " " in match[0] or "×" in match[0] else "by"
    return f" {_year_or_number(match['a'])} {between} {_year_or_number(match['b'])} "


def _magnified(match: re.Match[str]) -> str | None:
    if match["m"] in ("K", "k") and re.search(r"\b(?:in|a|an)\s*$", match.string[: match.start()]):
        return None  # "in 4K"
    before = re.search(r"([A-Za-z]+)\.?\s+$", match.string[: match.start()])
    if match["m"] == "B" and before and before[1].lower() in tables.ROOMS:
        return None
    return f" {_amount(match['n'], match['m'])} "


def _signed(match: re.Match[str]) -> str:
    return f" {'minus' if match['sign'] == '-' else 'plus'} {number(match['n'])} "


def _year_number(match: re.Match[str]) -> str | None:
    value = int(match[0])
    before, after = match.string[: match.start()], match.string[match.end() :]
    cue = bool(_YEAR_CUE.search(before)) or bool(re.match(r"\s*(AD|BC|CE|BCE)\b", after))
    if not 1000 <= value < 3000 or _PLURAL_AFTER.match(after):
        return None
    if not cue and not 1900 <= value < 2100:
        return None
    return f" {year(value)} "


def _percent(match: re.Match[str]) -> str:
    sign = "minus " if match["minus"] else ""
    until = f" to {number(match['to'])}" if match["to"] else ""
    return f" {sign}{number(match['n'])}{until} percent "


def _scientific(match: re.Match[str]) -> str:
    return f" {number(match['n'])} times ten to the {exponent(match['power'])} "


def exponent(power: str) -> str:
    return f"power of {'minus ' if power[0] == '-' else ''}{number(power.lstrip('+-'))}"


def _grouped(match: re.Match[str]) -> str:
    return f" {number(re.sub(r'[^0-9.]', '', match[0]))} "


def _from(match: re.Match[str]) -> str:
    hour, _, minute = match["low"].partition(":")
    return f" {cardinal(int(hour))} {cardinal(int(minute)) if minute else ''} to "


def _inches(match: re.Match[str]) -> str:
    return f" {number(match['n'])} inch "


def rules() -> tuple[Rule, ...]:
    """In the order in which they are tried; what is left are words and plain numbers."""
    n, m = NUMBER, _MAGNITUDE
    minus = r"(?P<minus>(?<![\w)])-)?"
    month, end = rf"(?P<month>{MONTH})\b\.?", r"(?![\w])"
    year_after = r"(?:,?\s+(?P<y>[12]\d{3})(?!\w|[.,]\d))?"
    return (
        rule(r"(?<![\w+])\+\d{1,3}[\s.-]\(?\d{1,4}\)?(?:[\s.-]\d{2,4}){1,4}(?!\d)", _phone),
        rule(r"(?<!\w)(?:1[\s.-])?\(\d{3}\)\s?\d{3}[\s.-]\d{4}(?!\w)", _phone),
        rule(r"(?<![\w.-])(?:1[\s.-])?\d{3}[\s.-]\d{3}[\s.-]\d{4}(?![\w-])", _phone),
        rule(r"(?<![\w.,-])\d{3}-\d{4}(?![\w-])", _phone),
        rule(r"(?<![\w.,-])0\d{1,4}-\d{2,4}-\d{3,4}(?![\w-])", _phone),
        rule(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])", _phone),
        rule(r"(?<![\w.-])(?:\d{4}[\s-]){3}\d{4}(?![\w-])", _phone),
        rule(
            rf"(?<![\w./-])(?P<y>\d{{4}})[-/.](?P<m>\d{{1,2}})[-/.](?P<d>\d{{1,2}}){end}", _iso_date
        ),
        rule(
            rf"(?<![\w./-])(?P<a>\d{{1,2}})[-/.](?P<b>\d{{1,2}})[-/.](?P<y>\d{{4}}|\d\d){end}(?!\.\d)",
            _slash_date,
        ),
        rule(
            rf"(?<!\w){month}\s*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?:[-–](?P<to>\d{{1,2}}))?(?![\w:%])(?![.,/]\d)"
            + year_after,
            _month_day,
            re.I,
        ),
        rule(
            rf"{_BEFORE}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{month}(?!\w)" + year_after,
            _day_month,
            re.I,
        ),
        rule(
            rf"{_BEFORE}(?P<h>\d{{1,2}}):(?P<m>\d\d)(?::(?P<s>[0-5]\d))?(?!\d)(?:\s?{_AM_PM}(?!\w))?",
            _time,
            re.I,
        ),
        rule(rf"{_BEFORE}(?P<h>\d{{1,2}})\s?{_AM_PM}(?!\w)", _time, re.I),
        rule(
            rf"{_BEFORE}(?P<low>\d{{1,2}}(?::\d\d)?)\s?[-–]\s?(?=\d{{1,2}}(?::\d\d)?\s?[ap]\.?m\b)",
            _from,
            re.I,
        ),
        rule(r"(?<=\d[ap]m)\s?[-–]\s?(?=\d)", " to ", re.I),
        rule(r"(?<![\w-])\d{5}-\d{4}(?![\w-])", _phone),
        rule(
            rf"{minus}(?P<sign>{_CURRENCY})\s?(?P<n>{n})(?:\s?[-–]\s?{_CURRENCY}?(?P<to>{n}))?"
            rf"(?:\s?(?P<magnitude>{m})(?![\w]))?",
            _money,
        ),
        rule(
            rf"{_BEFORE}(?P<n>{n})(?:\s?(?P<magnitude>{m}))?\s?(?P<sign>[€£¥₹₩₽₿]|US\$|\$)(?!\w)",
            _money,
        ),
        rule(
            rf"{_BEFORE}(?P<n>{n})(?:\s?(?P<magnitude>{m}))?\s?(?P<code>{'|'.join(tables.CODES)})\b",
            _money,
        ),
        rule(
            rf"\b(?P<code>{'|'.join(tables.CODES)})\s?(?P<n>{n})(?:\s?(?P<magnitude>{m})\b)?",
            _money,
        ),
        rule(r"(?<![\w.])(?P<v>v)?(?P<parts>\d+(?:\.\d+){2,})(?!\w)", _version, re.I),
        rule(r"(?<![\w.])(?P<v>v)(?P<parts>\d+(?:\.\d+)*)(?!\w)", _version),
        rule(r"(?<!\w)'?(?P<y>\d{4}|\d\d)'?s(?!\w)", _decade),
        rule(r"(?<![\w.])(?P<n>\d[\d,]*)(?:st|nd|rd|th)(?!\w)", _ordinal, re.I),
        rule(r"(?<![\w./])(?P<n>\d+)[\s-]+(?P<a>\d+)/(?P<b>\d+)(?![\w/])", _mixed),
        rule(r"(?<![\w./])(?P<a>\d+)/(?P<b>\d+)(?![\w/])", _fraction),
        rule(rf"{_BEFORE}(?P<f>\d+)'\s?(?:(?P<i>\d{{1,2}})\"?)?(?![\w'])", _feet),
        rule(r"(?<![\w.,\"])(?P<n>\d+)\"(?=\s+[a-z])", _inches),
        rule(r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)[eE](?P<power>[-+]?\d+)(?!\w)", _scientific),
        rule(r"(?<![\w.,'])\d{1,3}(?:'\d{3})+(?![\d'])", _grouped),
        rule(r"(?<![\w.,])\d{1,3}(?=[ \d]* 000\b)(?: \d{3})+(?! ?\d)", _grouped),
        rule(
            rf"{_BEFORE}(?P<low>{n})\s?[-–~]\s?(?P<high>{n})(?![\d-])(?:\s?(?P<unit>{_UNIT})(?!\w))?",
            _range,
        ),
        rule(rf"{_BEFORE}(?P<low>\d+):(?P<high>\d+)(?P<unit>)(?![\w:])", _range),
        rule(rf"{minus}(?P<n>{n})\s?%(?:\s?[-–~]\s?(?P<to>{n})\s?%)?", _percent),
        rule(
            rf"(?<![\w.,]){minus}(?P<n>{n})(?P<space>\s)?(?P<unit>{_UNIT})(?P<power>\^?[23])?"
            rf"(?:/(?P<per>{_UNIT})(?P<per_power>\^?[23])?)?(?![\w^])(?:\.(?=,|\s+[a-z\d]))?",
            _unit,
        ),
        rule(rf"{_BEFORE}(?P<a>{n})\s?[xX×]\s?(?P<b>{n})(?!\w)", _times),
        rule(
            rf"{_BEFORE}(?P<n>{n})\s?(?P<m>million|billion|trillion|thousand|[kKMB]|bn|mn)(?!\w)",
            _magnified,
        ),
        rule(rf"(?<![\w)])(?P<sign>[-+])(?P<n>{n})(?![\w])", _signed),
        rule(r"(?<![\w.,])\d{4}(?![\w]|[.,]\d)", _year_number),
    )
