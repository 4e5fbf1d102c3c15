"""The judge of driven lips, with a reader of pictures in MediaPipe's place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutual_forcing.config import SAMPLE_RATE
from training.data.dataset import Corpus
from training.evaluation.face_judges import SeenFace
from training.judge_driven import DrivenJudge, Driving, clips, films, judge_driven, nobody


class Brightness:
    """Lips are as open as a picture is bright; in a black one no face is found."""

    def face(self, picture: np.ndarray) -> SeenFace | None:
        lips = float(picture.mean()) / 255
        return SeenFace(lips, 0.0, np.zeros((478, 2))) if lips else None


@pytest.fixture
def judge(lively_generator) -> DrivenJudge:
    faces: Any = Brightness()
    return DrivenJudge(lively_generator, faces, 0)


def test_lips_that_are_late_small_or_not_there_are_told(judge, monkeypatch, tmp_path: Path) -> None:
    wave = np.sin(np.arange(100) / 3)
    sound = np.zeros(100 * SAMPLE_RATE // 25, np.float32)
    made = {"good": wave, "late": np.roll(wave, 2), "small": 0.3 * wave, "still": 0 * wave}
    asked = iter(made.values())
    monkeypatch.setattr(judge, "driven", lambda _: next(asked))
    sounds = [Driving("films", name, sound, wave) for name in made]
    text = judge_driven(judge, iter(sounds), tmp_path)
    rows = {row["name"]: row for row in json.loads((tmp_path / "driven.json").read_text())}
    assert (rows["good"]["r"], rows["good"]["lag"]) == (pytest.approx(1), 0)
    assert rows["late"]["r"] < 0.9 and rows["late"]["lag"] == 2
    assert rows["small"]["amplitude"] == pytest.approx(0.3)
    assert (rows["still"]["r"], rows["still"]["lag"]) == (0, 0)
    assert "| films, 4 |" in text and text == (tmp_path / "driven.md").read_text()


def test_sounds_where_nobody_speaks_come_last(judge, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judge, "driven", lambda sound: np.full(10, np.abs(sound).max()))
    judge_driven(judge, nobody(0), tmp_path)
    rows = json.loads((tmp_path / "driven.json").read_text())
    assert [row["open"] for row in rows] == [0.0] + 9 * [pytest.approx(0.2)]


@pytest.mark.slow
def test_clips_and_films_are_driven_for_real(
    judge, corpus_folder: Path, monkeypatch, tmp_path: Path, capsys
) -> None:
    corpus = Corpus(corpus_folder)
    monkeypatch.setattr(corpus, "split", lambda _: corpus.clips)
    found = list(clips(judge, corpus, 1))
    assert len(found) % 2 == 0 and "surrounded" in found[1].kind
    assert found[0].lips is not None and found[0].lips.std() > 0
    assert not np.array_equal(found[0].sound, found[1].sound)
    film = next(clip.path for clip in corpus.clips if clip.filmed)
    shutil.copy(film, tmp_path / "film.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    (real,) = films(judge, tmp_path)
    assert "text.mp4" in capsys.readouterr().err
    assert real.lips is not None and len(real.sound) == len(real.lips) * SAMPLE_RATE // 25
    assert len(judge.driven(real.sound)) == len(real.lips)
