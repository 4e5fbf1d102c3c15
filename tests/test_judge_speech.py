"""Speech judged from outside: what is asked, kept and counted; with the judges where they are installed."""

import json

import numpy as np
import pytest

from mutual_forcing import StreamingGenerator
from training import judge_speech as command
from training.data.voices import HELDOUT
from training.evaluation.speech_judges import SpeechJudges, mistakes
from training.judge_speech import SpeechOptions, cases, judge_speech, summary


class Ears:
    """Stands for the judges where their packages are missing: it hears every sentence, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def words(self, audio: np.ndarray, language: str) -> str:
        self.asked += 1
        assert audio.dtype == np.float32 and 16_000 < len(audio) < 160_000
        return "I'll meet you at the station" if language == "en" else "おはようございます"

    def mos(self, audio: np.ndarray) -> float:
        return float(np.sqrt(np.mean(audio**2)))

    dnsmos = mos

    def voice(self, audio: np.ndarray) -> np.ndarray:
        return np.eye(256, dtype=np.float32)[0]


def test_everybody_speaks_everyday_sentences_of_both_languages() -> None:
    told = cases(SpeechOptions(), ("en", "ja"))
    assert len({case.text for case in told}) == len(told) == 100
    for case in told:
        assert HELDOUT[case.voice.style] == "development" and case.voice.language == case.language
    assert len(cases(SpeechOptions(count=3), ("en",))) == 3


def test_mistakes_are_counted_in_what_is_said_not_in_how_it_is_written() -> None:
    assert mistakes("It costs five dollars.", "it costs $5", "en") == 0
    assert mistakes("It costs five dollars.", "It cost five dollars", "en") == pytest.approx(0.25)
    assert mistakes("駅はどこですか。", "えきはどこですか", "ja") == 0
    assert 0 < mistakes("駅はどこですか。", "液は底ですか", "ja") < 0.5
    assert mistakes("Hello.", "", "en") == 1


@pytest.mark.slow
def test_rows_are_kept_and_made_again_for_other_options(tmp_path, monkeypatch) -> None:
    generator, ears = StreamingGenerator.random("smoke"), Ears()
    monkeypatch.setattr(StreamingGenerator, "languages", ("en",))
    options = SpeechOptions(steps=(2,), count=1)
    text = judge_speech(generator, ears, options, tmp_path)  # type: ignore[arg-type]
    assert ears.asked == 3 and "few 2" in text and "their codec" in text
    assert (tmp_path / "speech.md").read_text() == text
    table = json.loads((tmp_path / "speech.json").read_text())["en"]
    assert table["speakers"]["likeness"] == [1, 1, 1]
    assert judge_speech(generator, ears, options, tmp_path) == text and ears.asked == 3  # type: ignore[arg-type]
    path = tmp_path / "few_2.jsonl"
    path.write_text(path.read_text()[:-40])  # cut off by a crash
    for _ in range(2):
        assert judge_speech(generator, ears, options, tmp_path) == text and ears.asked == 4  # type: ignore[arg-type]
    judge_speech(generator, ears, SpeechOptions(steps=(2,), count=1, seed=1), tmp_path)  # type: ignore[arg-type]
    assert ears.asked == 7


def test_wrong_options_are_refused_in_a_sentence(monkeypatch, capsys, tmp_path) -> None:
    for wrong in ({"steps": ()}, {"steps": (0,)}, {"steps": (51,)}, {"count": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"must|needed"):
            SpeechOptions(**wrong)
    monkeypatch.setattr("sys.argv", ["judge_speech", "--out", str(tmp_path), "--steps", "many"])
    assert command.main() == 1
    assert "such as 4,8,50" in capsys.readouterr().err


def test_means_have_intervals() -> None:
    rows = [dict.fromkeys(command.FIGURES, value) for value in (1.0, 2.0, 3.0)]
    mean, low, high = summary(rows)["mos"]
    assert mean == 2 and 1 <= low < 2 < high <= 3


def test_the_judges_hear_what_a_speaker_says() -> None:
    for name in ("faster_whisper", "speechmos", "distillmos", "resemblyzer"):
        pytest.importorskip(name)
    judges = SpeechJudges()
    first, other = (
        command._at_judges_rate(command._spoken(case).audio)
        for case in cases(SpeechOptions(count=2), ("en",))
    )
    text = cases(SpeechOptions(count=1), ("en",))[0].text
    assert mistakes(text, judges.words(first, "en"), "en") < 0.1
    noise = np.random.default_rng(0).normal(0, 0.1, len(first)).astype(np.float32)
    assert judges.mos(first) > 3 > judges.mos(noise)
    assert judges.dnsmos(first) > judges.dnsmos(noise)
    assert judges.voice(first) @ judges.voice(first[: len(first) // 2]) > judges.voice(
        first
    ) @ judges.voice(other)
