"""What WORLD (Morise 2016) hears in a corpus, as the source-filter codec's frames: its first teacher.

python -m training.data.world --corpus DIR

writes a file beside each clip's; those that exist are kept.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mutual_forcing.codecs.source_filter_codec import (
    BINS,
    FRAME,
    HIGHEST_PITCH,
    HOP,
    LOWEST_PITCH,
)
from mutual_forcing.config import FPS, SAMPLE_RATE

from ..atomic import written_whole
from .dataset import Clip, Corpus
from .synthesize import process_pool

_FFT = 1024
_NOTHING = -20.0
"""Logarithm of a gain that nobody hears."""


def analyse(audio: np.ndarray) -> np.ndarray:
    """Sound [N] at 24 kHz to frames float16 [N / HOP, 1 + 2 K]: pitch in hertz (0 where there is none), and
    the logarithms of the envelopes of voiced and unvoiced sound, as the codec's decoder predicts them.
    """
    import pyworld  # in training/requirements.txt alone

    sound = audio.astype(np.float64)
    pitch, time = pyworld.harvest(
        sound,
        SAMPLE_RATE,
        frame_period=1000 * HOP / SAMPLE_RATE,
        f0_floor=LOWEST_PITCH,
        f0_ceil=HIGHEST_PITCH,
    )
    power = pyworld.cheaptrick(sound, pitch, time, SAMPLE_RATE, fft_size=_FFT)
    share = pyworld.d4c(sound, pitch, time, SAMPLE_RATE, fft_size=_FFT)
    log_power, share = _at_bins(np.log(np.maximum(power, 1e-14))) / 2, _at_bins(share)
    # A harmonic is as high as its share of a period's energy; the codec counts noise in heights of its
    # window's spectrum.
    spoken = np.where(pitch > 0, pitch, 1.0)[:, None]
    voiced = (
        log_power
        + np.log(np.maximum(1 - share**2, 1e-6)) / 2
        + np.log(4 * spoken / SAMPLE_RATE) / 2
    )
    voiced[pitch == 0] = _NOTHING
    unvoiced = log_power + np.log(np.maximum(share, 1e-6)) - np.log(FRAME / 6) / 2
    # A frame of the codec is named by its beginning, one of WORLD by its middle.
    count = len(audio) // HOP
    place = np.minimum(np.arange(count) + FRAME // 2 // HOP, len(pitch) - 1)
    frames = np.concatenate([pitch[place, None], voiced[place], unvoiced[place]], 1)
    return frames.clip(_NOTHING, None).astype(np.float16)


def _at_bins(rows: np.ndarray) -> np.ndarray:
    """WORLD's bins [F, FFT / 2 + 1] to the codec's [F, K]."""
    theirs, ours = np.linspace(0, 1, rows.shape[1]), np.linspace(0, 1, BINS)
    return np.stack([np.interp(ours, theirs, row) for row in rows])


def frames_path(clip: Clip) -> Path:
    """Where the frames of a clip are kept."""
    return clip.path.with_suffix(".world.npy")


def write_frames(clip: Clip) -> None:
    """Analyse a clip, unless that is done."""
    path = frames_path(clip)
    if not path.exists():
        with written_whole(path) as partial, partial.open("wb") as file:
            np.save(file, analyse(clip.read_audio()))


def first_clips(corpus: Corpus, hours: float) -> list[Clip]:
    """The first clips of a corpus that last so long together: an hour of frames takes 700 MB."""
    ends = np.cumsum([clip.frames for clip in corpus.clips]) / FPS / 3600
    return [clip for clip, end in zip(corpus.clips, ends, strict=True) if end <= hours]


def write_all(clips: Sequence[Clip], workers: int) -> None:
    """Analyse clips in `workers` processes."""
    todo = [clip for clip in clips if not frames_path(clip).exists()]
    with process_pool(workers) as pool, tqdm(total=len(todo), desc="world", unit="clip") as bar:
        for _ in pool.imap_unordered(write_frames, todo):
            bar.update()


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.world", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=math.inf, help="of its beginning")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()

    from ..command import run  # with all of training, which the workers do without

    return run(lambda: write_all(first_clips(Corpus(given.corpus), given.hours), given.workers))


if __name__ == "__main__":
    sys.exit(main())
