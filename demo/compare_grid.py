"""The lanes of a comparison as one film, side by side, with labels."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mutual_forcing.config import FPS
from mutual_forcing.media import remux_faststart

from .compare import Lane

MOST_PIXELS = 1920 * 1080
"""Of the whole grid's picture."""
_COLOURS = {"Few": (16, 122, 87), "Multi": (109, 40, 217)}
_BACKGROUND = (16, 19, 26)


def film_maker_problem() -> str:
    """Return why `write_grid` cannot work on this machine, in one sentence; empty if it can."""
    program = os.environ.get("FFMPEG_BINARY", "ffmpeg-imageio")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        # moviepy's own rule; the wheel of imageio-ffmpeg brings the program on most machines.
        program = get_ffmpeg_exe() if program == "ffmpeg-imageio" else program
    except (ImportError, RuntimeError):
        program = ""
    if shutil.which("ffmpeg" if program == "auto-detect" else program):
        return ""
    return (
        "ffmpeg is missing (apt-get install ffmpeg): Compare cannot write its film of all lanes; "
        "everything else works."
    )


def write_grid(
    path: Path, lanes: Sequence[Lane], metadata: Mapping[str, Any], audible: int = 0
) -> None:
    """Write the finished lanes as one MP4; the sound is that of lane number `audible`.

    Raises ValueError when there is no finished lane, RuntimeError or OSError when ffmpeg fails.
    """
    if not lanes:
        raise ValueError("No lane is finished: there is nothing to show.")
    from moviepy import ColorClip, CompositeVideoClip, ImageClip, VideoFileClip, clips_array

    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        films = [
            stack.enter_context(VideoFileClip(str(lane.film), audio=index == audible))
            for index, lane in enumerate(lanes)
        ]
        columns = grid_columns(len(films))
        missing = -len(films) % columns
        size = cell_size(*films[0].size, len(films) + missing)
        cells = []
        for index, (lane, film) in enumerate(zip(lanes, films, strict=True)):
            label = ImageClip(_label(lane, index == audible), duration=film.duration)
            cell = [film.resized(size), label.with_position((10, 10))]
            cells.append(CompositeVideoClip(cell, size=size))
        longest = max(cell.duration for cell in cells)
        cells += [ColorClip(size, _BACKGROUND, duration=longest) for _ in range(missing)]
        grid = clips_array(
            [cells[i : i + columns] for i in range(0, len(cells), columns)], bg_color=_BACKGROUND
        )
        file = Path(folder) / "grid.mp4"
        # The temporary sound file would otherwise be written into the working folder.
        grid.write_videofile(
            str(file), fps=FPS, codec="libx264", audio_codec="aac", audio_fps=48_000,
            preset="veryfast", threads=1, logger=None, pixel_format="yuv420p",
            temp_audiofile=str(Path(folder) / "sound.m4a"),
        )  # fmt: skip
        grid.close()
        path.write_bytes(remux_faststart(file.read_bytes(), metadata))


def grid_columns(count: int) -> int:
    """Return how many of `count` cells stand in a row: 1, 2, 3, then 2 x 2 and 3 x 2."""
    return count if count <= 3 else math.ceil(count / 2)


def cell_size(width: int, height: int, cells: int) -> tuple[int, int]:
    """Return the even width and height of one cell: the film's, or less so that all together are bounded."""
    scale = min(1.0, math.sqrt(MOST_PIXELS / (cells * width * height)))
    return max(16, 2 * int(width * scale / 2)), max(16, 2 * int(height * scale / 2))


def _label(lane: Lane, audible: bool) -> np.ndarray:
    """A rounded label as uint8 RGBA; drawn at twice the size for smooth corners."""
    text = f"{lane.steps} step{'s' * (lane.steps > 1)}" + (" (sound)" if audible else "")
    font = ImageFont.load_default(30)
    left, top, right, bottom = font.getbbox(text)
    size = (round(right - left) + 36, round(bottom - top) + 26)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1), size[1] // 2, (*_COLOURS[lane.mode], 225)
    )
    pen.text((18 - left, 13 - top), text, "white", font)
    half = (size[0] // 2, size[1] // 2)
    return np.asarray(picture.resize(half, Image.Resampling.LANCZOS))
