"""What English abbreviations, units, currencies and signs are called."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


MONTHS = {
    **{"jan": "January", "feb": "February", "mar": "March", "apr": "April", "may": "May"},
    **{"jun": "June", "jul": "July", "aug": "August", "sep": "September", "sept": "September"},
    **{"oct": "October", "nov": "November", "dec": "December"},
}
MONTHS |= {name.lower(): name for name in MONTHS.values()}
MONTH_NAMES = tuple(dict.fromkeys(MONTHS.values()))
DAYS = {
    **{"mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday"},
    **{"thu": "Thursday", "thur": "Thursday", "thurs": "Thursday", "fri": "Friday"},
    **{"sat": "Saturday", "sun": "Sunday"},
}
ABBREVIATIONS = {
    **{"mr": "mister", "mrs": "missus", "ms": "miss", "messrs": "messers", "prof": "professor"},
    **{"drs": "doctors", "jr": "junior", "sr": "senior", "capt": "captain", "lt": "lieutenant"},
    **{"gen": "general", "sgt": "sergeant", "col": "colonel", "cmdr": "commander", "maj": "major"},
    **{"rev": "reverend", "hon": "honorable", "gov": "governor", "sen": "senator"},
    **{"rep": "representative", "pres": "president", "supt": "superintendent"},
    **{"vs": "versus", "etc": "et cetera", "approx": "approximately", "est": "established"},
    **{"inc": "incorporated", "ltd": "limited", "co": "company", "corp": "corporation"},
    **{"dept": "department", "univ": "university", "assn": "association", "bros": "brothers"},
    **{"ave": "avenue", "blvd": "boulevard", "rd": "road", "hwy": "highway", "apt": "apartment"},
    **{"mt": "mount", "ft": "fort", "no": "number", "nos": "numbers", "vol": "volume"},
    **{"fig": "figure", "eq": "equation", "sec": "section", "ch": "chapter", "pp": "pages"},
    **{"tel": "telephone", "ext": "extension", "min": "minimum", "max": "maximum", "misc": "misc"},
    **{"viz": "namely", "cf": "compare", "ca": "circa", "esp": "especially", "incl": "including"},
}
"""Before a full stop that ends no sentence by itself."""
STARTERS = words(
    """
    the a an he she it i we they you this that these those there then in on at but and so if when
    what who why how my his her our their its no yes for as to
    """
)
"""Words that, in capitals after an abbreviation, begin a new sentence; other capitals are names."""
TITLES = words(
    """
    mr mrs ms messrs prof drs capt lt gen sgt col cmdr maj rev hon gov sen rep pres supt mt
    """
)
"""Those that a name follows, in the same sentence."""
BEFORE_NAMES = words("ft mt gen col rep sen hon")
"""Those that are meant so only before a name."""
BEFORE_NUMBERS = words("no nos vol fig eq sec ch pp tel ext apt")
"""Those that are meant so only before a number."""
LOOSE = {
    **{"vs": "versus", "mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor"},
    **{"etc": "et cetera", "approx": "approximately", "prof": "professor"},
}
"""Those that are also written without a full stop."""
INITIALISMS_SAID = {"eg": "for example", "ie": "that is", "am": "A M", "pm": "P M", "ps": "P S"}
"""Dotted ones (e.g., p.m.) that are not simply spelt; in lower case, without their full stops."""
PLACES_AFTER_SAINT = words("mount mt lake fort port east west north south in to from of near")
UNITS = {
    **{"kg": "kilogram", "g": "gram", "mg": "milligram", "μg": "microgram", "lb": "pound"},
    **{"lbs": "pound", "oz": "ounce", "t": "ton", "km": "kilometer", "m": "meter"},
    **{"cm": "centimeter", "mm": "millimeter", "μm": "micrometer", "nm": "nanometer"},
    **{"mi": "mile", "yd": "yard", "ft": "foot", "in": "inch", "ha": "hectare"},
    **{"l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter"},
    **{"gal": "gallon", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute"},
    **{"mins": "minute", "s": "second", "sec": "second", "secs": "second", "ms": "millisecond"},
    **{"Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz"},
    **{"W": "watt", "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt"},
    **{"kV": "kilovolt", "mA": "milliamp", "mAh": "milliamp hour", "Ω": "ohm", "kΩ": "kilohm"},
    **{"J": "joule", "kJ": "kilojoule", "cal": "calorie", "kcal": "kilocalorie"},
    **{"Pa": "pascal", "kPa": "kilopascal", "bar": "bar", "psi": "P S I", "dB": "decibel"},
    **{"KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte"},
    **{"TB": "terabyte", "kb": "kilobit", "Mb": "megabit", "Gb": "gigabit"},
    **{"kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second"},
    **{"px": "pixel", "MP": "megapixel", "fps": "frame per second", "rpm": "R P M", "dpi": "D P I"},
    **{"mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour"},
    **{"°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "%": "percent"},
    **{"‰": "per mille", "¢": "cent"},
}
LETTER_LIKE = frozenset(("t", "m", "g", "h", "s", "l", "L", "in", "J", "W", "V", "bar"))
"""Units that also mean something else; after a space only what does not is a unit (see english.py)."""
SAME_IN_PLURAL = frozenset(("hertz", "kilohertz", "megahertz", "gigahertz", "percent", "per mille"))
CURRENCIES = {
    **{"$": ("dollar", "cent"), "US$": ("U S dollar", "cent"), "A$": ("Australian dollar", "cent")},
    **{"C$": ("Canadian dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")},
    **{"¥": ("yen", "sen"), "₹": ("rupee", "paisa"), "₩": ("won", "jeon")},
    **{"₽": ("ruble", "kopek"), "₿": ("bitcoin", ""), "₺": ("lira", "kurus"), "₪": ("shekel", "")},
}
CODES = {
    **{"USD": ("U S dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "penny")},
    **{
        "JPY": ("yen", "sen"),
        "CHF": ("Swiss franc", "centime"),
        "CAD": ("Canadian dollar", "cent"),
    },
    **{"AUD": ("Australian dollar", "cent"), "INR": ("rupee", "paisa"), "CNY": ("yuan", "fen")},
}
PLURALS = {"foot": "feet", "inch": "inches", "penny": "pence", "paisa": "paise"}
UNCHANGED = frozenset(("yen", "sen", "won", "jeon", "yuan", "fen"))
MAGNITUDES = {
    **{"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million"},
    **{"bn": "billion", "b": "billion", "B": "billion", "tn": "trillion", "T": "trillion"},
    **{word: word for word in ("hundred", "thousand", "million", "billion", "trillion")},
}
SIGNS = {
    **{
        "&": "and",
        "+": "plus",
        "=": "equals",
        "×": "times",
        "÷": "divided by",
        "±": "plus or minus",
    },
    **{"<": "less than", ">": "greater than", "≤": "at most", "≥": "at least", "≠": "is not"},
    **{"≈": "about", "∞": "infinity", "√": "square root of", "%": "percent", "‰": "per mille"},
    **{"@": "at", "#": "number", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "¢": "cent"},
    **{"₹": "rupee", "₩": "won", "₽": "ruble", "₿": "bitcoin", "°": "degrees", "©": "copyright"},
    **{"®": "registered", "§": "section", "¶": "paragraph", "→": "to", "⇒": "to", "←": "from"},
    **{"\\": "backslash", "^": "caret", "~": "about", "†": "dagger", "∑": "sum", "∆": "delta"},
    **{"∂": "partial", "∫": "integral", "∈": "in", "∪": "union", "∩": "intersection"},
}
SOUNDS = words("hm tsk psst pfft shh brr grr zzz mm nth rhythm")
"""Words without vowels."""
ROOMS = words("apt apartment room unit gate seat section class flat suite building terminal row")
"""Words after which a number's letter is its name (4B)."""
URL_SIGNS = {
    **{
        ".": "dot",
        "/": "slash",
        "-": "dash",
        "_": "underscore",
        "?": "question mark",
        "=": "equals",
    },
    **{"&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", ":": "colon", "@": "at"},
    **{
        ",": "comma",
        ";": "semicolon",
        "!": "exclamation mark",
        "*": "star",
        "'": "",
        "$": "dollar",
    },
    **{"(": "", ")": "", "[": "", "]": ""},
}
DOMAINS = words(
    "com org net edu gov io ai dev app info co uk us ca au de fr jp eu ch tv me gg xyz tech blog "
    "nl it es in cn kr br"
)
FILES = words(
    "tar gz py js ts json txt md csv pdf png jpg jpeg gif svg mp3 mp4 wav zip html css exe doc docx xls "
    "xlsx toml yaml yml sh cpp java"
)
GREEK = {
    sign: name
    for signs, names in (
        (
            "αβγδεζηθικλμνξοπρστυφχψω",
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho "
            "sigma tau upsilon phi chi psi omega",
        ),
    )
    for small, name in zip(signs, names.split(), strict=True)
    for sign in (small, small.upper())
}
ROYAL = words(
    """
    henry louis charles george edward richard william james elizabeth philip pius paul benedict
    gregory leo innocent alexander catherine ramses nicholas peter frederick napoleon otto
    victoria mary francis clement urban john robert david kenneth malcolm ivan haakon olav gustav
    christian leopold wilhelm ptolemy cleopatra darius xerxes mehmed murad selim suleiman
    constantine
    """
)
"""Names after which a Roman numeral is an ordinal."""
NUMBERED = words(
    """
    chapter part act scene war volume book section article phase type class level appendix figure
    table stage grade round step title unit option season episode game bowl mark version
    """
)
"""Words after which a single V or X is a number."""
LETTERED = words(
    """
    vitamin plan hepatitis section grade class level group team part option exhibit type side
    point appendix terminal gate column block variant letter
    """
)
"""Words after which A is the letter."""
ACRONYMS = words(
    """
    nasa nato unesco unicef opec fifa aids nafta ram rom pin sim lan wan sars posh sonar radar
    laser scuba swat fema osha nasdaq asean covid lego ikea yolo fomo captcha ebola tesla sim dos
    bios midi epcot hamas interpol noaa soho nimby pac smart snap start taser zip
    """
)
"""All capitals, and said as a word."""
RESPELT = {"jpeg": "jay peg", "gif": "giff", "ascii": "askey", "gui": "gooey", "sql": "sequel"}
"""Acronyms, files and names that the lexicon lacks, as words that it has."""
INITIALISMS = words(
    """
    us usa uk eu un uae fbi cia nsa irs fda cdc who wto imf nba nfl mlb nhl ncaa bbc cnn nbc abc
    cbs hbo mtv espn tv dvd cd pc mac ibm amd gpu cpu usb hdmi led lcd oled http https html css
    xml json url api sdk ide ai ml ar vr xr ui ux it id ip vpn dns ssd hdd pdf ceo cfo cto coo hr
    pr vip vp diy faq fyi asap atm eta rip tba tbd aka bmw gmc gps suv dj mc mp pm am ad bc ce
    bce est pst gmt utc cet dna rna hiv mri adhd ocd ptsd iq eq bmi icu er md phd mba ba bs ma
    lol omg btw imo idk brb tbh nyc la dc sf roi kpi b2b nda gdp usd eur gbp jpy cad aud rv tnt
    ufo llc lgbt lgbtq sos tgif ps ok xl xs xxl iou rsvp gop dnc kgb ss nyu mit ucla usc bbq iso
    ascii ieee ski rpg fps npc mmo pvp llm gpt tts asr nlp aws ios sms mms nfc rfid qr os pcr uv
    ac qa hq ny nj sd
    """
) - {
    "mac",
    "ski",
    "ascii",
    "json",
}
"""All capitals, and spelt, though some of them are also words."""
SHORT_WORDS = words(
    """
    a i an as at be by do go he if in is it me my no of oh on or ow so to up us we hi ha yo ah aw
    ad ok the and for are but not you all any can had her was one our out day get has him his how
    man new now old see two way who boy did its let put say she too use dad mom big bad ask end
    few got own run set try why yes yet fun hot off cat dog car eat far fly god guy hit job key
    kid law lie lot low map mad men met mix net nor odd oil pay per pet pie red rid sad sat sea
    sit six sky son sun tax tea ten tie top toy war web wet win wow yep act add age ago aid aim
    air arm art bag ban bar bat bed bet bit bow box bus buy cry cup cut die dig dry due ear egg
    eye fan fat fee fit fix fog fox gas gun guy hat hey hug ice ill jam jet joy lab lap leg lid
    lip log mud nut pan pen pig pin pop pot raw ray rob row rub sir ski spy tap tip ton van via
    won zoo
    """
)
"""Words of up to three letters that people write in capitals when they shout."""
