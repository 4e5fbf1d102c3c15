"""A contact sheet and a short film of a corpus, so that a person can judge it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mutual_forcing.media import write_mp4

from .dataset import Clip, Corpus

ROWS, FRAMES = 24, 8
FILM_CLIPS = 8


def write_preview(root: Path) -> None:
    """Write preview.png (24 identities, 8 frames and a mouth crop each) and preview.mp4."""
    corpus = Corpus(root)
    firsts = [clips[0] for clips in corpus.siblings.values() if clips[0].filmed]
    chosen = firsts[:: max(1, len(firsts) // ROWS)][:ROWS]
    half = (len(chosen) + 1) // 2
    rows = [_row(clip) for clip in chosen]
    blank = np.zeros_like(rows[0])
    pairs = zip(rows[:half], [*rows[half:], *[blank] * (2 * half - len(rows))], strict=True)
    Image.fromarray(np.concatenate([np.concatenate(p, 1) for p in pairs])).save(
        root / "preview.png"
    )
    film = chosen[:FILM_CLIPS]
    write_mp4(root / "preview.mp4", ((c.read_frames(0, c.frames), c.read_audio()) for c in film))


def _row(clip: Clip) -> np.ndarray:
    """Eight frames, and the mouth of the widest of all frames: uint8 [S, 9 S, 3]."""
    frames = clip.read_frames(0, clip.frames)
    size = frames.shape[1]
    widest = int(np.argmax(clip.row["mouth_openness"]))
    centre_x, centre_y, width, _ = clip.mouth_boxes[widest] * size
    box = (centre_x - width, centre_y - width, centre_x + width, centre_y + width)
    mouth = Image.fromarray(frames[widest]).crop(tuple(int(v) for v in box)).resize((size, size))
    places = np.linspace(0, len(frames) - 1, FRAMES).astype(int)
    return np.concatenate([*frames[places], np.asarray(mouth)], 1)
