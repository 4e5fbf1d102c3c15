"""Draw single characters: python -m training.data.gallery --count 48 --out DIR, or --gallery --out DIR.

Each looks straight into the camera, neutral and with closed lips, and differs in everything that
the corpus varies. Character number n depends on (seed, n) alone, like the corpus's identities: with
another seed than a corpus's own, none of them occurs in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .appearance import sample_appearance
from .head_model import UNIT_NAMES
from .renderer import Performance, Renderer

SEED = 1000
"""Not a corpus's: those begin at 0."""
SIZE = 512
QUALITY = 90
GALLERY_SEED = 2000
GALLERY = {
    "01-blond-bob": 485, "02-boy": 89, "03-afro": 133, "04-grandfather": 100, "05-girl": 124,
    "06-glasses": 28, "07-beard": 58, "08-cropped": 113, "09-cartoon": 90, "10-violet": 53,
    "11-teal": 116, "12-line": 72,
}  # fmt: skip
"""The page's own characters: chosen by eye among those of GALLERY_SEED."""


def portraits(numbers: Sequence[int], seed: int = SEED, size: int = SIZE) -> Iterator[np.ndarray]:
    """Yield characters by their numbers, uint8 RGB [size, size, 3]; the same for the same seed and size.

    Raises ValueError for no numbers, a negative seed or a size below 16.
    """
    if not numbers or seed < 0:
        raise ValueError("The count must be 1 or more, and the seed 0 or more.")
    renderer = Renderer(size)
    try:
        for number in numbers:
            appearance = sample_appearance(np.random.default_rng([seed, number]))
            frontal = dataclasses.replace(appearance, camera_angles=(0.0, 0.0))
            yield renderer.render(frontal, _at_rest()).frames[0]
    finally:
        renderer.close()


def write_portraits(out: Path, count: int, seed: int = SEED, size: int = SIZE) -> list[Path]:
    """Write the first `count` as SEED-NUMBER.webp into `out` and return their paths, in order."""
    out.mkdir(parents=True, exist_ok=True)
    digits = len(str(count - 1))
    paths = []
    for number, picture in enumerate(portraits(range(count), seed, size)):
        path = out / f"{seed}-{number:0{digits}d}.webp"
        Image.fromarray(picture).save(path, quality=QUALITY, method=6)
        paths.append(path)
    return paths


def write_gallery(out: Path, size: int = SIZE) -> list[Path]:
    """Write the page's own characters as NAME.png into `out` and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = portraits(list(GALLERY.values()), GALLERY_SEED, size)
    paths = [out / f"{name}.png" for name in GALLERY]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path, optimize=True)
    return paths


def _at_rest() -> Performance:
    """One frame of a face that does nothing and looks at the camera."""
    still, gaze = np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32)
    return Performance(np.zeros((1, len(UNIT_NAMES)), np.float32), still, still, gaze)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.gallery", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels on each side")
    parser.add_argument("--gallery", action="store_true", help="the page's own instead")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        if given.gallery:
            paths = write_gallery(given.out, given.size)
        else:
            paths = write_portraits(given.out, given.count, given.seed, given.size)
    except ValueError as error:
        sys.stderr.write(f"characters: {error}\n")
        return 1
    sys.stdout.write(f"{len(paths)} characters in {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
