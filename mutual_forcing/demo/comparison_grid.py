"""Writes the variants of a comparison side by side into one video with labels."""

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

from .comparison import Variant

MAX_PIXELS = 1920 * 1080
"""Limit for the pixels of the whole grid."""
_COLOURS = {"Few": (16, 122, 87), "Multi": (109, 40, 217)}
_BACKGROUND = (16, 19, 26)


def ffmpeg_problem() -> str:
    """Return why `write_grid` cannot work on this machine, in one sentence; empty if it can."""
    program = os.environ.get("FFMPEG_BINARY", "ffmpeg-imageio")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        # The same rule as in moviepy. On most machines the wheel of imageio-ffmpeg contains ffmpeg.
        program = get_ffmpeg_exe() if program == "ffmpeg-imageio" else program
    except (ImportError, RuntimeError):
        program = ""
    if shutil.which("ffmpeg" if program == "auto-detect" else program):
        return ""
    return (
        "ffmpeg is missing (apt-get install ffmpeg): Compare cannot write its film of all variants; "
        "everything else works."
    )


def write_grid(
    path: Path, variants: Sequence[Variant], metadata: Mapping[str, Any], audible: int = 0
) -> None:
    """Write finished variants as one MP4 file with the sound of variant number `audible`.

    Raises ValueError when there is no variant, RuntimeError or OSError when ffmpeg fails.
    """
    if not variants:
        raise ValueError("No variant is finished: there is nothing to show.")
    from moviepy import ColorClip, CompositeVideoClip, ImageClip, VideoFileClip, clips_array

    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        videos = [
            stack.enter_context(VideoFileClip(str(variant.video), audio=index == audible))
            for index, variant in enumerate(variants)
        ]
        columns = grid_columns(len(videos))
        missing = -len(videos) % columns
        width, height = videos[0].size
        size = cell_size(width, height, len(videos) + missing)
        cells = []
        for index, (variant, video) in enumerate(zip(variants, videos, strict=True)):
            label = ImageClip(_label(variant, index == audible), duration=video.duration)
            cell = [video.resized(size), label.with_position((10, 10))]
            cells.append(CompositeVideoClip(cell, size=size))
        longest = max(cell.duration for cell in cells)
        cells += [ColorClip(size, _BACKGROUND, duration=longest) for _ in range(missing)]
        grid = clips_array(
            [cells[i : i + columns] for i in range(0, len(cells), columns)], bg_color=_BACKGROUND
        )
        file = Path(folder) / "grid.mp4"
        # By default the temporary sound file is written into the working directory.
        grid.write_videofile(
            str(file), fps=FPS, codec="libx264", audio_codec="aac", audio_fps=48_000,
            preset="veryfast", threads=1, logger=None, pixel_format="yuv420p",
            temp_audiofile=str(Path(folder) / "sound.m4a"),
        )  # fmt: skip
        grid.close()
        remux_faststart([file.read_bytes()], path, metadata)


def grid_columns(count: int) -> int:
    """Return the number of columns for `count` cells: 1, 2, 3, then two rows."""
    return count if count <= 3 else math.ceil(count / 2)


def cell_size(width: int, height: int, cells: int) -> tuple[int, int]:
    """Return the even width and height of a cell: the video's, reduced if the grid would be too large."""
    scale = min(1.0, math.sqrt(MAX_PIXELS / (cells * width * height)))
    return max(16, 2 * int(width * scale / 2)), max(16, 2 * int(height * scale / 2))


def _label(variant: Variant, audible: bool) -> np.ndarray:
    """Return a label with round corners as uint8 RGBA, drawn at twice the size and reduced."""
    text = f"{variant.steps} step{'s' * (variant.steps > 1)}" + (" (sound)" if audible else "")
    font = ImageFont.load_default(30)
    left, top, right, bottom = font.getbbox(text)
    size = (round(right - left) + 36, round(bottom - top) + 26)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1), size[1] // 2, (*_COLOURS[variant.mode], 225)
    )
    pen.text((18 - left, 13 - top), text, "white", font)
    half = (size[0] // 2, size[1] // 2)
    return np.asarray(picture.resize(half, Image.Resampling.LANCZOS))
