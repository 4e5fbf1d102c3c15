"""Pictures judged from outside: what is compared, kept and counted; with the judges where they are there."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from mutual_forcing import StreamingGenerator
from mutual_forcing.media import read_image
from training import judge_pictures as command
from training.evaluation.face_judges import FaceJudges, SeenFace, sharpness
from training.judge_pictures import (
    BASES,
    CHARACTERS,
    PictureOptions,
    compared,
    judge_pictures,
    table,
)


class Eyes:
    """Stands for the judges where their packages are missing: it sees a face in all that is not dark."""

    def __init__(self) -> None:
        self.looks = 0

    def face(self, picture: np.ndarray) -> SeenFace | None:
        if not picture.any():
            return None
        corners = np.array([[0.0, 0.0], [picture.shape[1], picture.shape[0]]])
        return SeenFace(float(picture.mean()), 0.1, corners)

    def identity(self, picture: np.ndarray, face: SeenFace) -> np.ndarray:
        self.looks += 1
        return np.zeros(128)


def row(lips: list, blink: list, asked: list | None = None, name: str = "photo-a") -> dict:
    found = {"lips": lips, "blink": blink, "asked": asked or [], "sharpness": 0.9, "identity": 0.2}
    return {"name": name, **found}


def test_lips_and_blinks_are_those_of_the_bundled_characters() -> None:
    time = np.arange(100)
    lips, blink = np.sin(time / 5) ** 2, np.where((time > 40) & (time < 46), 0.9, 0.05)
    bases = [row(list(lips), list(blink)), row(list(2 * lips), list(blink * 0.9))]
    same = compared(row(list(1.5 * lips), list(np.roll(0.8 * blink, 2)), list(blink)), bases)
    assert same["r"] == pytest.approx(1) and 0.7 < same["amplitude"] < 1.6
    assert same["peaks"] == pytest.approx([0.72])
    # What is not found is left out; what does not follow is told.
    unseen = [*lips[:50], *[None] * 50]
    found = compared(row(unseen, [None] * 100, list(blink)), bases)
    assert found["r"] == pytest.approx(1) and found["peaks"] == [0]
    frozen = compared(row([0.1] * 100, list(blink)), bases)
    assert frozen["r"] == frozen["amplitude"] == 0 and frozen["peaks"] == []
    still = compared(row(list(np.roll(lips, 8)), [0.3] * 100, list(blink)), bases)
    assert still["r"] < 0 and still["peaks"] == [0.3]
    assert compared({"name": "x", "refused": "No face."}, bases) == {}


def test_each_kind_has_a_line_and_what_is_refused_is_named() -> None:
    good = {**row([], []), "r": 0.95, "amplitude": 1.0, "peaks": [0.6, 0.4]}
    bad = {**row([], [], name="photo-b"), "r": 0.95, "amplitude": 0.3, "peaks": [0.7]}
    drawn = {**row([], [], name="drawing-a"), "r": 0.2, "amplitude": 1.0, "peaks": []}
    text = table([good, bad, drawn, {"name": "painting-a", "refused": "No face."}])
    assert "| photo, 2 | 0.95 (0.95) | 0.65 (1) | 1 | 2 of 3 |" in text
    assert "| drawing, 1 | 0.20 (0.20) | 1.00 (1) | 0 | 0 of 0 |" in text
    assert "- painting-a: No face." in text


@pytest.mark.slow
def test_rows_are_kept_and_made_again_for_other_options(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(command, "BASES", BASES[:1])
    generator, eyes, out = StreamingGenerator.random("tiny"), Eyes(), tmp_path / "out"
    shutil.copy(CHARACTERS / f"{BASES[0]}.png", tmp_path / "photo-a.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "photo-dark.png")
    pictures = command.pictures_in(tmp_path)
    options = PictureOptions("Hello.", steps=1, size=256)
    text = judge_pictures(generator, eyes, options, pictures, out)  # type: ignore[arg-type]
    assert "| photo, 1 |" in text and "- photo-dark: " in text
    assert (out / "pictures.md").read_text() == text
    found = json.loads((out / "pictures.json").read_text())
    assert [r["name"] for r in found] == ["photo-a", "photo-dark"] and found[0]["found"] == 1
    assert len(found[0]["asked"]) == len(found[0]["lips"]), "what is asked of every frame"
    looked = eyes.looks
    assert judge_pictures(generator, eyes, options, pictures, out) == text  # type: ignore[arg-type]
    assert eyes.looks == looked, "every row was kept"
    judge_pictures(generator, eyes, PictureOptions("Hi.", steps=1, size=256), pictures, out)  # type: ignore[arg-type]
    assert eyes.looks > looked


def test_wrong_options_are_refused_in_a_sentence(monkeypatch, capsys, tmp_path) -> None:
    for wrong in ({"steps": 0}, {"steps": 51}, {"seed": -1}):
        with pytest.raises(ValueError, match="must"):
            PictureOptions(**wrong)
    given = ["judge_pictures", "--pictures", str(tmp_path), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", given)
    assert command.main() == 1
    assert "There are no pictures in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_judges_see_a_face_and_who_it_is() -> None:
    try:
        FaceJudges()
    except ValueError as error:
        pytest.skip(str(error))
    pictures = [read_image(CHARACTERS / f"{base}.png") for base in BASES[:2]]
    with closing(FaceJudges()) as judges:
        faces = [judges.face(picture) for picture in pictures]
        assert all(face and face.lips < 0.15 and face.blink < 0.2 for face in faces)
        half = np.asarray(Image.fromarray(pictures[0]).resize((128, 128)))
        small = judges.face(half)
        assert small is not None and faces[0] is not None and faces[1] is not None
        assert np.abs(small.points * 4 - faces[0].points).mean() < 6, "in the picture's own pixels"
        first, other = (
            judges.identity(p, f) for p, f in zip(pictures, faces, strict=True) if f is not None
        )
        assert np.linalg.norm(first - judges.identity(half, small)) < np.linalg.norm(first - other)
        blurred = np.asarray(Image.fromarray(half).resize((512, 512)))
        assert sharpness(blurred, faces[0]) < 0.5 * sharpness(pictures[0], faces[0])
        assert judges.face(np.zeros((200, 200, 3), np.uint8)) is None
