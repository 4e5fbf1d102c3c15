"""Reads uploaded pictures, finds their faces, and draws what will be animated. Results are cached."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mutual_forcing.faces import MOST_FACES, Face, Placement, crop_of, find_faces, place
from mutual_forcing.types import FaceCrop

from .cage import read_image

MAX_FACES = MOST_FACES
"""Number of faces in one picture that can be chosen, the largest first."""
_SIDE = 560
"""Pixels on the longer side of the pictures that `outlined` draws."""
_CHOSEN, _OTHER = (255, 255, 255), (255, 214, 102)

T = TypeVar("T")


class ResultCache(Generic[T]):
    """A cache of a function's last `most` results, including its ValueErrors.

    Simultaneous calls with the same arguments run the function once.
    """

    def __init__(self, make: Callable[..., T], most: int) -> None:
        self._make, self._most = make, most
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple, Future[T | str]] = OrderedDict()

    def __call__(self, *key: object) -> T:
        with self._lock:
            known = self._made.get(key)
            future = self._made.setdefault(key, Future())
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        if known is None:
            self._fill(future, key)
        result = future.result()
        if isinstance(result, str):
            raise ValueError(result)
        return result

    def _fill(self, future: Future[T | str], key: tuple) -> None:
        try:
            future.set_result(self._make(*key))
        except ValueError as error:
            # Only the sentence: the exception's traceback would keep the pixels in memory.
            future.set_result(str(error))
        except BaseException as error:
            with self._lock:
                self._made.pop(key, None)
            future.set_exception(error)


def read_character(path: str) -> np.ndarray:
    """Return an uploaded picture as read-only uint8 RGB [H, W, 3]; raises ValueError."""
    return _PIXELS(path, _version(path))


def shape_of(path: str) -> tuple[int, int, int]:
    """Return the picture's [H, W, 3]; raises ValueError as `read_character` does."""
    return _SHAPES(path, _version(path))


def faces_of(path: str) -> tuple[Face, ...]:
    """Return the faces that can be chosen, the largest first; raises ValueError for a bad picture."""
    return _FACES(path, _version(path))


def place_face(path: str, number: int = 1) -> Placement:
    """Return the placement of face `number`, 1 being the largest.

    Raises ValueError with one sentence for a bad picture and a face that cannot be used or is not there.
    """
    return place(read_character(path), number - 1, _FACES(path, _version(path)))


def nearest_face(path: str, x: float, y: float) -> int:
    """Return the number of the face nearest to a point in the picture of `outlined`; 1 without faces."""
    height, width = shape_of(path)[:2]
    scale = _scale(height, width)
    faces = faces_of(path)
    apart = [math.dist((x / scale, y / scale), face.middle) for face in faces]
    return 1 + apart.index(min(apart)) if apart else 1


def outlined(path: str, number: int = 1) -> np.ndarray:
    """Return the reduced picture with the outline of the animated square; several faces are numbered.

    A face that cannot be used is outlined as well. Raises ValueError only for a bad picture.
    """
    pixels, faces = read_character(path), faces_of(path)
    height, width = pixels.shape[:2]
    scale = _scale(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    pen = ImageDraw.Draw(image, "RGBA")
    for index, face in enumerate(faces):
        _outline(pen, crop_of(face), scale, chosen=index + 1 == number)
        if len(faces) > 1:
            _number(pen, face, index + 1, scale, size, chosen=index + 1 == number)
    if not faces:
        _outline(pen, place_face(path).crop, scale, chosen=True)
    return np.asarray(image)


def _scale(height: int, width: int) -> float:
    return min(1.0, _SIDE / max(height, width))


def _outline(pen: ImageDraw.ImageDraw, crop: FaceCrop, scale: float, chosen: bool) -> None:
    corners = [(scale * x, scale * y) for x, y in _corners(crop)]
    if chosen:
        pen.line([*corners, *corners[:2]], (20, 20, 50, 190), 6, joint="curve")
    pen.line([*corners, *corners[:2]], (*(_CHOSEN if chosen else _OTHER), 235), 2 + chosen)


def _corners(crop: FaceCrop) -> list[tuple[float, float]]:
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return [(crop.x + x, crop.y + y) for x, y in (square @ crop.to_picture.T).tolist()]


def _number(
    pen: ImageDraw.ImageDraw, face: Face, number: int, scale: float, size: tuple[int, int],
    chosen: bool,
) -> None:  # fmt: skip
    """Draw the face's number on a disc at the upper left corner of its square."""
    left, top = _corners(crop_of(face))[0]
    radius = 12
    x, y = (
        min(max(scale * place, radius + 2), limit - radius - 2)
        for place, limit in zip((left, top), size, strict=True)
    )
    disc = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse(disc, (79, 70, 229, 255) if chosen else (20, 24, 38, 220), _OTHER, 1)
    pen.text((x, y), str(number), "white", ImageFont.load_default(15), anchor="mm")


def _version(path: str) -> tuple[int, int]:
    """Return a value that differs from that of an earlier file of the same name."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # The reader reports it.
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _read(path: str, _: tuple[int, int]) -> np.ndarray:
    pixels = read_image(path)
    pixels.flags.writeable = False
    return pixels


def _find(path: str, version: tuple[int, int]) -> tuple[Face, ...]:
    return find_faces(_PIXELS(path, version))


_PIXELS: ResultCache[np.ndarray] = ResultCache(_read, 4)
"""Takes at most 4 times 12.6 MB."""
_SHAPES: ResultCache[tuple] = ResultCache(lambda path, version: _PIXELS(path, version).shape, 256)
_FACES: ResultCache[tuple[Face, ...]] = ResultCache(_find, 256)
