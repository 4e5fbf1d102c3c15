"""Pictures of any shape with real faces in them: the page's own characters, pasted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mutual_forcing.canvas import cut_square
from mutual_forcing.faces import place
from mutual_forcing.media import read_image
from mutual_forcing.pixels import to_signal

CHARACTERS = Path(__file__).parents[1] / "examples" / "characters"
WALL = (118, 132, 150)


def scene(width: int, height: int, *people: tuple[str, int, int, int]) -> np.ndarray:
    """Return uint8 [height, width, 3] with characters (name, left, top, side) on a wall."""
    image = Image.new("RGB", (width, height), WALL)
    for name, left, top, side in people:
        with Image.open(next(CHARACTERS.glob(f"*{name}.png"))) as character:
            image.paste(
                character.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left, top)
            )
    return np.asarray(image)


def square(name: str) -> torch.Tensor:
    """The square around a character's face, [3, 512, 512] within -1..1."""
    picture = read_image(str(next(CHARACTERS.glob(f"*{name}.png"))))
    pixels = cut_square(picture, place(picture).crop, 512)
    return to_signal(torch.from_numpy(pixels)).permute(2, 0, 1)


def landscape() -> np.ndarray:
    """One face, left of the middle of 960 x 540 pixels."""
    return scene(960, 540, ("boy", 180, 100, 340))


def portrait() -> np.ndarray:
    """One face in the upper half of 360 x 640 pixels."""
    return scene(360, 640, ("blond-bob", 50, 60, 260))


def two() -> np.ndarray:
    """A larger face on the left, a smaller one on the right of 900 x 500 pixels."""
    return scene(900, 500, ("grandfather", 60, 60, 380), ("girl", 560, 140, 260))


def cut_off() -> np.ndarray:
    """A face whose eyes and forehead lie beyond the upper border."""
    return scene(500, 400, ("blond-bob", 60, -190, 400))


def tiny() -> np.ndarray:
    """A face that is too small to be animated."""
    return scene(300, 300, ("boy", 120, 120, 30))


def save(pixels: np.ndarray, path: Path) -> str:
    """Write a PNG and return its path as the page holds it."""
    Image.fromarray(pixels).save(path)
    return str(path)
