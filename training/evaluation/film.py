"""One film with every system side by side. The systems are heard in turn; a frame marks the one that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import write_mp4

_LABEL = 16
_BORDER = 4
_HEARD = (255, 190, 60)


def grid(clips: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> float:
    """Write the film of frames uint8 [T, S, S, 3] and sound [N] by name; returns its seconds.

    All are cut to the shortest. Raises ValueError without any clip.
    """
    if not clips:
        raise ValueError("There is nothing to show.")
    return write_mp4(path, _parts(clips), {"shows": list(clips)})


def _parts(
    clips: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    count = min(len(frames) for frames, _ in clips.values())
    for heard, (_, audio) in clips.items():
        cells = [_cell(frames[:count], name, name == heard) for name, (frames, _) in clips.items()]
        yield _tile(cells), audio[: count * SAMPLE_RATE // FPS]


def _cell(frames: np.ndarray, name: str, heard: bool) -> np.ndarray:
    """One system with its name above: [T, S + 24, S + 8, 3]."""
    count, size = frames.shape[:2]
    colour = _HEARD if heard else (30, 30, 30)
    canvas = Image.new("RGB", (size + 2 * _BORDER, size + _LABEL + 2 * _BORDER), colour)
    ink = (0, 0, 0) if heard else (230, 230, 230)
    ImageDraw.Draw(canvas).text((_BORDER, 2), name, fill=ink)
    cell = np.asarray(canvas)[None].repeat(count, 0)
    top = _LABEL + _BORDER
    cell[:, top : top + size, _BORDER : _BORDER + size] = frames
    return cell


def _tile(cells: list[np.ndarray]) -> np.ndarray:
    columns = math.ceil(math.sqrt(len(cells)))
    empty = [np.zeros_like(cells[0])] * (-len(cells) % columns)
    cells = [*cells, *empty]
    rows = [np.concatenate(cells[i : i + columns], 2) for i in range(0, len(cells), columns)]
    return np.concatenate(rows, 1)
