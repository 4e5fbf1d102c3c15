"""English as people write it: every kind with its reading, what users reported of such programs first."""

import pytest

from mutual_forcing.text.phonemes import read

REPORTED = {
    "PLEASE STOP NOW": "please stop now",
    "NASA": "nasa",
    "5kg": "five kilograms",
    "in the 1990s": "in the nineteen nineties",
    "$5M": "five million dollars",
    "3D": "three D",
    "H2O": "H two O",
    "5:02:54 PM": "five oh two and fifty four seconds P M",
    "1.2.3": "one point two point three",
    "4/23/2021": "April twenty third, twenty twenty one",
    "1-2 weeks": "one to two weeks",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "https://example.com/a?b=1": "example dot com slash a question mark B equals one",
    "me@site.org": "me at site dot org",
    "It costs $10 today. I paid £3.50.": (
        "It costs ten dollars today. I paid three pounds and fifty pence."
    ),
    "St. Louis": "Saint Louis",
    "He lives on Oak Dr.": "He lives on Oak Drive.",
    "$1.5 million": "one point five million dollars",
    "C#": "C sharp",
    "Wait <break time='1s'/> here": "Wait. here",
    "Hello 世界 friend": "Hello 世界 friend",
}
NUMBERS = {
    "0": "zero",
    "21": "twenty one",
    "1,234,567.89": (
        "one million two hundred and thirty four thousand five hundred and sixty seven point eight nine"
    ),
    "007": "zero zero seven",
    ".5": "point five",
    "1234567890123456": "one two three four five six seven eight nine zero one two three four five six",
    "-5 and +3": "minus five and plus three",
    "1'000 or 1 000 000": "one thousand or one million",
    "5551234567": "five five five one two three four five six seven",
    "3×10^8": "three times ten to the power of eight",
    "1e-5": "one times ten to the power of minus five",
    "20%-30%": "twenty to thirty percent",
    "3 oz. of tea": "three ounces of tea",
    "5 ft. 3 in.": "five feet three inches.",
    "5 kΩ, 10 μg": "five kilohms, ten micrograms",
    "Apt. 4B": "Apartment four B",
    "5B people": "five billion people",
    "zip 90210-1234": "zip nine zero two one zero, one two three four",
    "-5°C": "minus five degrees Celsius",
    "72°F": "seventy two degrees Fahrenheit",
    "50% of 3.5 %": "fifty percent of three point five percent",
    "1st 2nd 3rd 21st": "first second third twenty first",
    "1/2 and 3/4": "one half and three quarters",
    "2½ cups": "two and one half cups",
    "24/7": "twenty four seven",
    "5 + 3 = 8": "five plus three equals eight",
    "3 x 4": "three times four",
    "1920x1080": "nineteen twenty by ten eighty",
    "x² + y³": "X squared plus Y cubed",
    "5-10kg": "five to ten kilograms",
    "3–2": "three to two",
    "1990-1995": "nineteen ninety to nineteen ninety five",
    "60 km/h": "sixty kilometers per hour",
    "10 kg/m²": "ten kilograms per square meter",
    "100 m away": "one hundred meters away",
    "5'10\"": "five feet ten inches",
    "1 mile, 1 kg, 2 ft": "one mile, one kilogram, two feet",
    "5 in a row": "five in a row",
    "2.4GHz": "two point four gigahertz",
    "10-year-old": "ten year old",
    "٣": "three",
}
DATES = {
    "Jan. 5, 2020": "January fifth, twenty twenty",
    "the 5th of May": "the fifth of May",
    "5 January 2020": "fifth January, twenty twenty",
    "March 3": "March third",
    "Sept. 11": "September eleventh",
    "2024-05-03": "May third, twenty twenty four",
    "23.04.2021": "April twenty third, twenty twenty one",
    "12/25": "December twenty fifth",
    "in 1066": "in ten sixty six",
    "1999 and 2005": "nineteen ninety nine and two thousand and five",
    "1066 people": "one thousand and sixty six people",
    "2000 books": "two thousand books",
    "the '90s": "the nineties",
    "Mon-Fri": "Monday to Friday",
    "Jan.-Mar.": "January to March",
    "10-11am": "ten to eleven A M",
    "1:30:00": "one thirty",
    "9 a.m. Monday": "nine A M Monday",
    "2000s": "two thousands",
    "I may march.": "I may march.",
    "10:15am": "ten fifteen A M",
    "12:30": "twelve thirty",
    "17:00": "seventeen hundred",
    "5pm": "five P M",
    "at 5 p.m. we go": "at five P M we go",
    "7:05": "seven oh five",
    "3:00": "three o'clock",
}
MONEY = {
    "$1": "one dollar",
    "a $5 bill": "a five dollar bill",
    "$20/month": "twenty dollars per month",
    "$0.99": "ninety nine cents",
    "$1,000.50": "one thousand dollars and fifty cents",
    "-$5": "minus five dollars",
    "$5-10": "five to ten dollars",
    "$5k": "five thousand dollars",
    "€20 or 20€": "twenty euros or twenty euros",
    "¥500": "five hundred yen",
    "5 USD": "five U S dollars",
    "£1.01": "one pound and one penny",
    "£3 million": "three million pounds",
}
WORDS = {
    "I LOVE THIS SO MUCH!!!": "I love this so much!",
    "FBI, IBM and the USA": "F B I, I B M and the U S A",
    "IT and it": "I T and it",
    "PCs": "P C's",
    "the CEO's": "the C E O's",
    "UNESCO": "unesco",
    "COVID-19": "covid nineteen",
    "USB-C": "U S B C",
    "AT&T": "A T and T",
    "MP3": "M P three",
    "J. R. R. Tolkien": "J R R Tolkien",
    "H.G. Wells": "H G Wells",
    "the U.S.A. is": "the U S A is",
    "Dr. Smith vs. Mr. Jones": "Doctor Smith versus Mister Jones",
    "12 Oak Dr. is": "twelve Oak Drive is",
    "The U.S. President": "The U S President",
    "I like the U.S. It is big": "I like the U S. It is big",
    "H₂SO₄": "H two S O four",
    "ʜᴇʟʟᴏ": "hello",
    "Main St. is closed": "Main Street is closed",
    "Mount St. Helens": "Mount Saint Helens",
    "e.g. this, i.e. that": "for example this, that is that",
    "tea, milk etc. Then": "tea, milk et cetera. Then",
    "No. 5": "Number five",
    "No. I won't": "No. I won't",
    "w/o milk": "without milk",
    "Ph.D.": "P H D.",
    "World War II": "World War two",
    "Henry VIII": "Henry the eighth",
    "Chapter V": "Chapter five",
    "I mix MIX": "I mix mix",
    "Super Bowl LVIII": "Super Bowl fifty eight",
    "Vitamin A.": "Vitamin A.",
    "don't DON'T": "don't don't",
    "well-known": "well known",
    "and/or": "and or",
    "salt & pepper": "salt and pepper",
    "π": "pi",
}
WEB = {
    "www.example.co.uk": "W W W dot example dot C O dot U K",
    "Go to example.com.": "Go to example dot com.",
    "first.last+tag@mail-host.org": "first dot last plus tag at mail dash host dot org",
    "#ThrowbackThursday": "hashtag Throwback Thursday",
    "#1": "number one",
    "@user_name": "at user name",
    "main.py": "main dot P Y",
    "192.168.0.1": "one nine two dot one six eight dot zero dot one",
    "v2.0": "version two point zero",
    "+44 20 7946 0958": "plus four four, two zero, seven nine four six, zero nine five eight",
    "1-800-555-1234": "one, eight zero zero, five five five, one two three four",
}
SIGNS = {
    "**bold**, _it_ and `code`": "bold, it and code",
    "# Title\n\n- milk\n- eggs": "Title. milk. eggs",
    "1. First\n2. Second": "one. First. two. Second",
    "Tom &amp; Jerry": "Tom and Jerry",
    "Wait... what?": "Wait, what?",
    "Well… So": "Well. So",
    "yes — no": "yes, no",
    "we’ll “quote”": "we'll quote",
    "10\u00a0kg": "ten kilograms",
    "cafe\u0301 naïve Øre straße": "cafe naive Ore strasse",
    "Ｈｅｌｌｏ ﬁne １２": "Hello fine twelve",
    "he\u200bllo wor\u00adld \ufeff": "hello world",
    "Hello.Bye": "Hello. Bye",
    "one , two": "one, two",
    "(a) [b] {c}": "a B C",
    "①": "one",
    "1️⃣": "one",
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pair
        for table in (REPORTED, NUMBERS, DATES, MONEY, WORDS, WEB, SIGNS)
        for pair in table.items()
    ],
)
def test_everything_is_said_and_nothing_is_lost(text: str, said: str) -> None:
    reading = read(text, "en")
    assert reading.text == said
    assert reading.unspoken == ()
    assert all(word.phonemes for word in reading.words)


@pytest.mark.parametrize(
    ("text", "said", "unspoken"),
    [
        ("hello 😀👍 friend 😀👍", "hello friend", ("😀👍",)),
        ("hello Привет 你好", "hello", ("Привет", "你好")),
        ("Γειά σου, 2π", "two pi", ("Γειά", "σου")),
        ("say مرحبا بكم now", "say now", ("مرحبا", "بكم")),
        ("[text](https://a.com)", "text", ("https://a.com",)),
        ("<i>so</i>", "so", ("<i>", "</i>")),
        ("5 ★ film", "five film", ("★",)),
        ("fun :) and <3", "fun and", (":)", "<3")),
        ("👨‍👩‍👧 family 🇯🇵", "family", ("👨‍👩‍👧", "🇯🇵")),
    ],
)
def test_what_cannot_be_said_is_named(text: str, said: str, unspoken: tuple[str, ...]) -> None:
    reading = read(text)
    assert (reading.text, reading.unspoken) == (said, unspoken)


def test_japanese_words_are_said_with_english_sounds() -> None:
    said = {word.text: "".join(word.phonemes) for word in read("I love 世界 and 東京タワー").words}
    assert (said["世界"], said["東京タワー"]) == ("sɛkɑi", "toʊkjoʊtɑwɑ")


def test_a_word_of_any_length_is_said() -> None:
    (word,) = read("donaudampfschifffahrt" * 20).words
    assert len(word.phonemes) > 200
