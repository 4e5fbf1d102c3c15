"""Japanese as people write it: its readings, in misaki's signs, and what cannot be said."""

import pytest

from mutual_forcing.text.inventory import PHONEMES
from mutual_forcing.text.kana import _MORAS, in_english, mora_phonemes
from mutual_forcing.text.phonemes import read

READINGS = {
    "こんにちは、世界！": "koɲɲiʨiβa, sekai!",
    "私は学生です。": "βataɕi βa ɡakɯseː desɨ.",
    "東京へ行きます。": "toːkʲoː e ikʲi masɨ.",
    "今日は一昨日より暑い": "kʲoː βa ototoi joɾʲi aʦɨi.",
    "きゃりーぱみゅぱみゅ": "kʲaɾʲiːpamʲɨpamʲɨ.",
    "コンピューター": "kompʲɨːtaː.",
    "ヴァイオリン": "vaioɾʲiɴ.",
    "すご〜い！": "sɨɡoːi!",
    "ﾊﾝｶｸｶﾞﾅ": "haŋkakɯɡana.",
    "人々": "çitobʲito.",
    "切手を買った": "kʲiʔte o kaʔ ta.",
}
NUMBERS = {
    "2024年5月3日": "二千二十四年 五月 三日",
    "1,500円": "千五百円",
    "午後3時15分": "午後三時十五分",
    "10:30に": "十時三十分に",
    "5:00 PMに": "午後五時に",
    "2021/4/23に": "二千二十一年四月二十三日に",
    "4/23は": "四月二十三日は",
    "1/2の": "二分の一の",
    "3.14です": "三点一四です",
    "-5度": "マイナス五度",
    "50%オフ": "五十パーセントオフ",
    "＄１００です": "百ドルです",
    "￥500です": "五百円です",
    "1本と2本と3本": "一本と二本と三本",
    "5〜10人": "五から十人",
    "第IV章": "第四章",
    "100mです": "百メートルです",
    "5kgの米": "五キログラムの米",
    "①番": "一番",
    "28日(土)は": "二十八日 土曜日は",
    "-3.5℃です": "マイナス三点五度です",
    "10%〜20%です": "十パーセントから二十パーセントです",
    "丸の内1-2-3です": "丸の内一の二の三です",
    "No.1です": "ナンバー一です",
    "㈱と㍻": "株式会社と平成",
    "電話は03-1234-5678です": "電話はゼロ サン、イチ ニー サン ヨン、ゴー ロク ナナ ハチです",
}
LATIN = {
    "NASAは": "ナサは",
    "ＮＨＫを": "エヌエイチケイを",
    "iPhoneを買う": "アイフォンを買う",
    "Hello world、です": "ハロー ワールド、です",
    "DON'T です": "ドントです",
    "C#が好き": "シーシャープが好き",
    "example.com を": "エグザンプル ドット コムを",
    "a@b.co.jpへ": "エー アットマーク ビー ドット シーオー ドット ジェーピーへ",
    "#タグです": "ハッシュタグ タグです",
    "α版": "アルファ版",
}


def said(text: str) -> str:
    words = read(text, "ja").words
    return " ".join("".join(word.phonemes) + word.sign for word in words)


def sounds(text: str) -> str:
    return "".join(p for word in read(text, "ja").words for p in word.phonemes).replace("ː", "")


@pytest.mark.parametrize(("text", "phonemes"), READINGS.items())
def test_readings(text: str, phonemes: str) -> None:
    assert said(text) == phonemes and read(text).language == "ja"


@pytest.mark.parametrize(("text", "same"), [*NUMBERS.items(), *LATIN.items()])
def test_it_is_said_as_if_it_were_written_out(text: str, same: str) -> None:
    assert sounds(text) == sounds(same)
    assert read(text, "ja").unspoken == ()


@pytest.mark.parametrize(
    ("text", "unspoken"),
    [
        ("😀楽しい", ("😀",)),
        ("Привет です", ("Привет",)),
        ("说です", ("说",)),
        ("本です 々", ("々",)),
        ("<b>本</b>です", ("<b>", "</b>")),
        ("[本](https://a.com)です", ("https://a.com",)),
        ("本です★", ("★",)),
    ],
)
def test_what_cannot_be_said_is_named(text: str, unspoken: tuple[str, ...]) -> None:
    assert read(text, "ja").unspoken == unspoken


def test_pauses() -> None:
    words = read("はい、そうです。\n\n「本」です……ね", "ja").words
    assert [w.text for w in words if w.sign == ","] == ["はい", "です"]
    assert [w.text for w in words if w.sign in (".", "?", "!")] == ["です", "ね"]


def test_every_kana_has_phonemes_of_the_inventory() -> None:
    assert {p for signs in _MORAS.values() for p in signs} <= set(PHONEMES)
    for kana in map(chr, range(0x30A1, 0x30F5)):
        assert mora_phonemes(kana), kana
    assert mora_phonemes("カンパイ") == ("k", "a", "m", "p", "a", "i")
    assert mora_phonemes("サンカ")[2] == "ŋ" and mora_phonemes("ホン")[2] == "ɴ"
    assert mora_phonemes("ーカー") == ("k", "aː")


def test_english_voices_say_every_japanese_sound() -> None:
    english = set(PHONEMES[:41])
    for signs in _MORAS.values():
        assert set(in_english(signs)) <= english, signs
    assert in_english(mora_phonemes("キョート")) == ("k", "j", "oʊ", "t", "oʊ")
    assert in_english(mora_phonemes("キモノ")) == ("k", "i", "m", "oʊ", "n", "oʊ")
    assert in_english(mora_phonemes("サケ")) == ("s", "ɑ", "k", "eɪ")
