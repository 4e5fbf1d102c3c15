"""English text to phonemes."""

import threading

import pytest

from mutual_forcing.text import MAX_CHARACTERS, PHONEMES, phonemize


def spoken(text: str) -> list[str]:
    return [word.text.lower() for word in phonemize(text)]


def test_inventory_is_fixed() -> None:
    # Checkpoints hold one embedding per entry, in this order.
    assert PHONEMES[0] == "_" and len(PHONEMES) == len(set(PHONEMES)) == 41
    assert PHONEMES[1] == "ɑ" and PHONEMES[-1] == "j"


def test_words_phonemes_and_pauses() -> None:
    hello, world, bye = phonemize("Hello, world! Bye")
    assert hello.phonemes == ("h", "ɛ", "l", "oʊ") and hello.pause == "comma"
    assert (world.text, world.pause, bye.pause) == ("world", "sentence", "sentence")
    assert len(hello.stressed) == len(hello.phonemes) and "ˈ" in "".join(hello.stressed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dr. Smith is 21", ["doctor", "smith", "is", "twenty", "one"]),
        ("50% of $5", ["fifty", "percent", "of", "five", "dollars"]),
        ("1/2 and 24/7", ["one", "half", "and", "twenty", "four", "seven"]),
        ("5 + 3", ["five", "plus", "three"]),
        ("salt & pepper", ["salt", "and", "pepper"]),
        ("and/or", ["and", "or"]),
        ("café naïve", ["cafe", "naive"]),
        ("Ｈｅｌｌｏ ﬁne", ["hello", "fine"]),
        ("Hello.Bye", ["hello", "bye"]),
        ("😀 hello Привет 你好", ["hello"]),
        ("we’ll", ["we'll"]),
    ],
)
def test_signs_and_scripts(text: str, words: list[str]) -> None:
    assert spoken(text) == words


def test_a_blank_line_ends_a_sentence_and_a_line_break_does_not() -> None:
    first, second, _ = phonemize("one\ntwo\n\nthree")
    assert (first.pause, second.pause) == ("none", "sentence")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("😀", "nothing that can be spoken"),
        ("Привет", "nothing that can be spoken"),
        ("...!?", "nothing that can be spoken"),
        ("x" * (MAX_CHARACTERS + 1), "longer than 2000"),
    ],
)
def test_errors_are_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        phonemize(text)
    assert "\n" not in str(caught.value)


def test_every_phoneme_is_in_the_inventory() -> None:
    words = phonemize("A quick brown fox jumps over the lazy dog; measure beige oil! Zzyzx qwrt.")
    assert {p for word in words for p in word.phonemes} <= set(PHONEMES)


def test_threads_may_phonemize_together() -> None:
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(spoken("The zyxwvut barks")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [["the", "zyxwvut", "barks"]] * 4
