"""Text to phonemes: the inventory, words and pauses, errors, the preview, languages."""

import os
import subprocess
import sys
import threading

import pytest

from mutual_forcing.text.inventory import NEEDED, PHONEMES, as_known, phoneme_id, spoken_languages
from mutual_forcing.text.normalise import find_language
from mutual_forcing.text.phonemes import MAX_CHARACTERS, phonemize, read
from mutual_forcing.text.timing import check_transcript, read_text, text_tokens, time_text
from mutual_forcing.types import TimedPhoneme, Transcript


class Durations:
    """Every phoneme lasts 0.1 s."""

    def __init__(self, known_phonemes: int) -> None:
        self.known_phonemes = known_phonemes

    def predict(self, ids: list[int], pace: float = 0.0) -> list[float]:
        assert max(ids) <= self.known_phonemes
        return [0.1] * len(ids)


ENGLISH_ONLY, BOTH = Durations(NEEDED["en"]), Durations(NEEDED["ja"])


def spoken(text: str) -> list[str]:
    return [word.text.lower() for word in phonemize(text)]


def test_inventory_only_grows_at_its_end() -> None:
    # Checkpoints hold one embedding per entry, in this order.
    assert PHONEMES[0] == "_" and len(PHONEMES) == len(set(PHONEMES)) == 93
    assert PHONEMES[1] == "ɑ" and PHONEMES[40] == "j" and NEEDED["en"] == 41
    assert PHONEMES[41] == "a" and PHONEMES[73] == "ʔ" and NEEDED["ja"] == 74
    assert PHONEMES[74] == "ˈɑ" and PHONEMES[89:] == ("_,", "_.", "_?", "_!")
    assert phoneme_id("_") == 1 and phoneme_id("ʔ") == 74
    assert (spoken_languages(41), spoken_languages(74)) == (("en",), ("en", "ja"))
    with pytest.raises(ValueError, match="Unknown phoneme"):
        phoneme_id("ʘ")


def test_words_phonemes_and_pauses() -> None:
    hello, world, bye = phonemize("Hello, world! Bye")
    assert hello.phonemes == ("h", "ɛ", "l", "ˈoʊ") and hello.sign == ","
    assert (world.text, world.sign, bye.sign) == ("world", "!", ".")
    assert [w.sign for w in phonemize("Really?! Why, no?")] == ["?", ",", "?"]
    assert len(hello.stressed) == len(hello.phonemes) and "ˈ" in "".join(hello.stressed)


def test_words_are_read_in_their_context() -> None:
    words = phonemize("I read the book yesterday. I will read it.")
    assert [word.phonemes[1] for word in words if word.text == "read"] == ["ˈɛ", "ˈi"]


def test_a_letter_is_its_name_and_an_article_is_not() -> None:
    a, _, _, letter = phonemize("A dog or A")
    assert (a.phonemes, letter.phonemes) == (("ə",), ("ˈeɪ",))
    assert ["".join(w.phonemes) for w in phonemize("FBI's PCs")] == [
        "ˈɛf",
        "bˈi",
        "ˈaɪz",
        "pˈi",
        "sˈiz",
    ]


def test_a_blank_line_ends_a_sentence_and_a_line_break_does_not() -> None:
    first, second, _ = phonemize("one\ntwo\n\nthree")
    assert (first.sign, second.sign) == ("", ".")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("😀", "nothing that can be spoken in English .😀."),
        ("Привет", "nothing that can be spoken in English .Привет."),
        ("...!?", "nothing that can be spoken"),
        ("\u200b", "nothing that can be spoken"),
        ("ーー", "nothing that can be spoken in Japanese"),
        ("x" * (MAX_CHARACTERS + 1), "longer than 2000"),
    ],
)
def test_errors_are_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        phonemize(text)
    assert "\n" not in str(caught.value)


def test_every_phoneme_is_in_the_inventory() -> None:
    words = phonemize("A quick brown fox jumps over the lazy dog; measure beige oil! Zzyzx qwrt.")
    found = {p for word in words for p in word.phonemes}
    assert found <= set(PHONEMES) and {as_known(p, 41) for p in found} <= set(PHONEMES[:41])
    assert "ˈɔɪ" in found and as_known("_?", 41) == "_" and as_known("_?", 93) == "_?"


def test_the_preview_says_what_will_be_said_and_what_cannot() -> None:
    reading = read("Dr. Smith paid $5 😀 to Привет, 😀 <b>now</b>")
    assert reading.language == "en"
    assert reading.text == "Doctor Smith paid five dollars to, now"
    assert [word.text for word in reading.words] == reading.text.replace(",", "").split()
    assert all(word.phonemes for word in reading.words)
    assert reading.unspoken == ("😀", "Привет", "<b>", "</b>")


def test_what_cannot_be_printed_is_named_by_its_code_point() -> None:
    assert read("hello \x07 there").unspoken == ("U+0007",)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello there", "en"),
        ("こんにちは", "ja"),
        ("世界", "ja"),
        ("Hello 世界 friend", "en"),
        ("My name is 田中太郎", "en"),
        ("What does こんにちは mean?", "en"),
        ("iPhone 15 Proを買った", "ja"),
        ("私はMacBook Proを使っています", "ja"),
        ("https://example.com を見て", "ja"),
        ("100m走で5kg", "ja"),
        ("ｶﾀｶﾅ", "ja"),
        ("第2回WHO会議", "ja"),
        ("Wi-FiとBluetooth", "ja"),
        ("Q&Aコーナー", "ja"),
        ("No.1です", "ja"),
        ("😀", "en"),
        ("123", "en"),
    ],
)
def test_the_language_is_found_and_can_be_chosen(text: str, language: str) -> None:
    assert find_language(text) == language
    assert find_language(text, "ja") == "ja" and find_language(text, "en") == "en"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, en, ja"):
        find_language("hello", "fr")


def test_a_number_is_read_in_the_chosen_language() -> None:
    assert [word.text for word in read("12", "en").words] == ["twelve"]
    assert "".join(p for word in read("12", "ja").words for p in word.phonemes) == "ʥɨːɲi"


def test_a_model_that_speaks_no_japanese_says_so() -> None:
    with pytest.raises(
        ValueError, match="is Japanese, and this checkpoint's voices speak English"
    ) as caught:
        time_text("こんにちは", ENGLISH_ONLY)
    assert "load a checkpoint that speaks Japanese" in str(caught.value)
    assert time_text("こんにちは", BOTH).phonemes[1].phoneme == "k"
    with pytest.raises(ValueError, match="is Japanese"):
        read_text("12", NEEDED["en"], "ja")
    transcript = Transcript((TimedPhoneme("h", 0.0, 0.3), TimedPhoneme("ɾ", 0.3, 0.5)))
    with pytest.raises(ValueError, match="does not know the phonemes ɾ: use those of English"):
        check_transcript(transcript, NEEDED["en"])
    check_transcript(transcript, NEEDED["ja"])
    marked = Transcript((TimedPhoneme("ˈɑ", 0.0, 0.3), TimedPhoneme("_?", 0.3, 0.5)))
    for known, read_as in ((len(PHONEMES), ["ˈɑ", "_?"]), (41, ["ɑ", "_"])):
        check_transcript(marked, known)
        ids = text_tokens(marked, "", 0, 1, known_phonemes=known).ids[0, 0]
        assert [PHONEMES[i - 1] for i in ids[ids > 0]] == read_as


def test_a_transcript_names_what_cannot_be_spoken() -> None:
    transcript = time_text("Hello 😀 there", ENGLISH_ONLY)
    assert transcript.unspoken == transcript.shifted(1.0).unspoken == ("😀",)
    more = transcript.then(time_text("more 🎈 and 😀", ENGLISH_ONLY))
    assert more.unspoken == ("😀", "🎈")
    assert time_text("Hello", ENGLISH_ONLY).unspoken == ()


MONEY = "It costs $10 today. I paid £3.50 on 4/23/2021 for 1,234.5 kg."
SAID = (
    "It costs ten dollars today. I paid three pounds and fifty pence on April twenty third, twenty "
    "twenty one for one thousand two hundred and thirty four point five kilograms."
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "locale", ["C", "POSIX", "C.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8", "ja_JP.eucJP", ""]
)
def test_the_locale_of_the_machine_does_not_matter(locale: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
    environment |= {"LANG": locale, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8"}
    code = f"from mutual_forcing.text.phonemes import read; print(read({MONEY!r}).text)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == SAID


@pytest.mark.slow
def test_dictionaries_are_loaded_at_first_use_each_by_its_language() -> None:
    code = """
import sys, mutual_forcing.text.timing
from mutual_forcing.text.phonemes import warm_up
for language in ("", "en", "ja"):
    if language:
        warm_up(language)
    print(*sorted({"gruut", "haqumei", "num2words"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines() == ["", "gruut num2words", "gruut haqumei num2words"]


def test_threads_may_phonemize_together() -> None:
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(spoken("The zyxwvut barks 世界")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [["the", "zyxwvut", "barks", "世界"]] * 4
