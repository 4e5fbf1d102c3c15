"""Writing clips: H.264 and FLAC in one MP4, or FLAC alone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from safetensors.numpy import save_file

from mutual_forcing.chunks import FRAMES_PER_CHUNK
from mutual_forcing.config import FPS, SAMPLE_RATE

from ..atomic import written_whole

CRF = 10
FLAC_FRAME = 4096


def write_film(path: Path, frames: np.ndarray, audio: np.ndarray) -> None:
    """Write frames uint8 [T, S, S, 3] and audio float [N] at 24 kHz; a crash leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height = frames.shape[2], frames.shape[1]
        video.pix_fmt = "yuv444p"
        video.thread_count = 1
        video.options = {"crf": str(CRF), "g": str(FRAMES_PER_CHUNK), "preset": "veryfast"}
        track = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)
        for begin in range(0, len(samples), FLAC_FRAME):
            part = samples[None, begin : begin + FLAC_FRAME]
            block = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            block.sample_rate, block.pts = SAMPLE_RATE, begin
            container.mux(track.encode(block))
        container.mux(track.encode(None))


def write_sound(path: Path, audio: np.ndarray) -> None:
    """Write audio float [N] at 24 kHz; a crash leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        soundfile.write(partial, audio, SAMPLE_RATE, format="FLAC")


def write_motion(path: Path, motion: np.ndarray, **known: np.ndarray | None) -> None:
    """Write a clip's motion [T, 28] beside it, half precision, and what else is known of it (not None).

    units [T, 52] also say what moves on one side alone, free [T, F] what a film's encoder read in numbers
    without names; landmarks [T, 64, 2]: see data/tracked_points.py.
    """
    parts = {"motion": motion} | {n: part for n, part in known.items() if part is not None}
    with written_whole(path.with_suffix(".safetensors")) as partial:
        # As laid out in memory it is written: transposed arrays must be copied.
        save_file(
            {name: part.astype(np.float16, order="C") for name, part in parts.items()}, partial
        )
